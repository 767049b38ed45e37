import { expect } from 'chai';
import { Qcow2fsError } from '../../../src/errors.js';
import { DiskFs } from '../../../src/fuse/disk-fs.js';
import { Dispatcher, REPLY_BYTES } from '../../../src/fuse/dispatch.js';
import { WritableDisk } from '../support/writable-disk.js';

// Linux include/uapi/linux/fuse.h and errno(3), independent of src/.
const OP = { GETATTR: 3, SETATTR: 4, OPEN: 14, WRITE: 16, FSYNC: 20, FLUSH: 25, INIT: 26, FALLOCATE: 43 };
const SYNCFS = 50;
const E = { EPERM: 1, EIO: 5, EISDIR: 21, EINVAL: 22, EFBIG: 27, ENOSPC: 28, EOPNOTSUPP: 95 };
const KEEP = 1;
const PUNCH = 2;
const ZERO = 16;
const WRITE_CACHE = 1;
const O_DSYNC = 0o10000;
const OPTIONS = { name: 'disk.raw', uid: 1, gid: 2, mode: 0o644, mtimeMs: 0, blocks: undefined };

describe('a FUSE request to a disk that can be written', () => {
  let disk: WritableDisk;
  let overruns: number;
  let dispatcher: Dispatcher;
  const reply = Buffer.alloc(REPLY_BYTES);

  function use(size: number, growable: boolean): void {
    disk = new WritableDisk(size, growable);
    overruns = 0;
    dispatcher = new Dispatcher(
      new DiskFs(disk, OPTIONS),
      () => {},
      () => overruns++,
    );
  }
  beforeEach(() => use(4096, false));

  function ask(opcode: number, body: Buffer, inode = 2): { error: number; body: Buffer } {
    const bytes = Buffer.alloc(40 + body.length);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(opcode, 4);
    bytes.writeBigUInt64LE(BigInt(inode), 16);
    body.copy(bytes, 40);
    const length = dispatcher.dispatch(bytes, bytes.length, reply);
    return { error: Math.abs(reply.readInt32LE(4)), body: reply.subarray(16, length) };
  }

  function write(offset: number, data: string, writeFlags = 0, flags = 0): { error: number; body: Buffer } {
    const body = Buffer.alloc(40 + data.length);
    body.writeBigUInt64LE(BigInt(offset), 8);
    body.writeUInt32LE(data.length, 16);
    body.writeUInt32LE(writeFlags, 20);
    body.writeUInt32LE(flags, 32);
    body.write(data, 40);
    return ask(OP.WRITE, body);
  }

  function fallocate(mode: number, offset: number, length: number): number {
    const body = Buffer.alloc(32);
    body.writeBigUInt64LE(BigInt(offset), 8);
    body.writeBigUInt64LE(BigInt(length), 16);
    body.writeUInt32LE(mode, 24);
    return ask(OP.FALLOCATE, body).error;
  }

  function setattr(valid: number, size = 0): { error: number; body: Buffer } {
    const body = Buffer.alloc(88);
    body.writeUInt32LE(valid, 0);
    body.writeBigUInt64LE(BigInt(size), 16);
    return ask(OP.SETATTR, body);
  }

  it('INIT asks for the write-back cache', () => {
    const body = Buffer.alloc(64);
    body.writeUInt32LE(7, 0);
    body.writeUInt32LE(40, 4);
    body.writeUInt32LE(0xffff_ffff, 12);
    expect(ask(OP.INIT, body, 0).body.readUInt32LE(12) & (1 << 16)).not.to.equal(0);
  });

  it('OPEN goes past the page cache for those who only write', () => {
    const open = (flags: number): number => {
      const body = Buffer.alloc(8);
      body.writeUInt32LE(flags, 0);
      return ask(OP.OPEN, body).body.readUInt32LE(8) & 1;
    };
    expect([open(0), open(1), open(2)]).to.deep.equal([0, 1, 0]);
  });

  it('GETATTR tells that the owner may write, and what the disk takes of the host', () => {
    const { body } = ask(OP.GETATTR, Buffer.alloc(16));
    expect(body.readUInt32LE(16 + 60)).to.equal(0o100644);
    expect(body.readBigUInt64LE(16 + 16)).to.equal(2n);
    expect(body.readBigUInt64LE(0)).to.equal(1n);
  });

  it('WRITE writes, and says how much', () => {
    const { error, body } = write(100, 'some bytes');
    expect([error, body.readUInt32LE(0)]).to.deep.equal([0, 10]);
    expect(disk.content.toString('latin1', 99, 111)).to.equal('\xeesome bytes\xee');
    expect(disk.calls).to.deep.equal([]);
  });

  it('WRITE for O_DSYNC flushes before it answers', () => {
    expect(write(0, 'x', 0, O_DSYNC).error).to.equal(0);
    expect(disk.calls).to.deep.equal(['flush']);
  });

  it('WRITE at the end writes what fits, and beyond it nothing', () => {
    const { error, body } = write(4090, '0123456789');
    expect([error, body.readUInt32LE(0)]).to.deep.equal([0, 6]);
    expect(disk.content.toString('latin1', 4090)).to.equal('012345');
    expect(write(4096, 'x').error).to.equal(E.ENOSPC);
    expect(write(2 ** 50, 'x').error).to.equal(E.ENOSPC);
    expect(overruns).to.equal(0);
  });

  it('WRITE from the page cache fails where it does not fit, because nobody looks at how much did', () => {
    expect(write(4090, '0123456789', WRITE_CACHE).error).to.equal(E.ENOSPC);
    expect(disk.content.toString('latin1', 4090)).to.equal('012345');
    expect(write(4096, 'x', WRITE_CACHE).error).to.equal(E.ENOSPC);
    expect(overruns).to.equal(2);
  });

  it('WRITE makes a disk larger that may grow', () => {
    use(4096, true);
    expect(write(5000, 'abc', WRITE_CACHE).error).to.equal(0);
    expect(disk.size).to.equal(5120);
    expect(disk.content.toString('latin1', 5000, 5003)).to.equal('abc');
    expect(overruns).to.equal(1);
  });

  it('WRITE that lies about its length or is for the directory does no harm', () => {
    const body = Buffer.alloc(45);
    body.writeUInt32LE(6, 16);
    expect(ask(OP.WRITE, body).error).to.equal(E.EINVAL);
    body.writeUInt32LE(5, 16);
    expect(ask(OP.WRITE, body, 1).error).to.equal(E.EISDIR);
  });

  it('WRITE tells the writer what the host says', () => {
    const failure = (code: string) =>
      new Qcow2fsError('host-io', 'write failed', { cause: Object.assign(new Error(code), { code }) });
    for (const [code, errno] of [
      ['ENOSPC', E.ENOSPC],
      ['EDQUOT', E.ENOSPC],
      ['EFBIG', E.EFBIG],
      ['EIO', E.EIO],
    ] as const) {
      disk.failure = failure(code);
      expect(write(0, 'x').error, code).to.equal(errno);
    }
  });

  it('FSYNC, FLUSH and SYNCFS flush', () => {
    for (const opcode of [OP.FSYNC, OP.FLUSH, SYNCFS])
      expect(ask(opcode, Buffer.alloc(24)).error).to.equal(0);
    expect(disk.calls).to.deep.equal(['flush', 'flush', 'flush']);
  });

  it('FALLOCATE punches holes and writes zeros inside the disk', () => {
    expect(fallocate(PUNCH | KEEP, 1, 99)).to.equal(0);
    expect(fallocate(PUNCH | KEEP, 4000, 9999)).to.equal(0);
    expect(fallocate(PUNCH | KEEP, 5000, 10)).to.equal(0);
    expect(fallocate(ZERO, 7, 8)).to.equal(0);
    expect(fallocate(ZERO | KEEP, 4000, 9999)).to.equal(0);
    expect(disk.calls).to.deep.equal(['discard 1 99', 'discard 4000 96', 'zero 7 8', 'zero 4000 96']);
  });

  it('FALLOCATE does not promise space that it cannot keep free', () => {
    expect(fallocate(0, 0, 100)).to.equal(E.EOPNOTSUPP);
    expect(fallocate(KEEP, 0, 9999)).to.equal(E.EOPNOTSUPP);
    expect(fallocate(8, 0, 512)).to.equal(E.EOPNOTSUPP);
  });

  it('FALLOCATE beyond the end grows a disk that may, and is EFBIG for others', () => {
    for (const mode of [0, ZERO]) expect(fallocate(mode, 4000, 200)).to.equal(E.EFBIG);
    use(4096, true);
    expect(fallocate(0, 4000, 200)).to.equal(0);
    expect(disk.size).to.equal(4608);
    expect(fallocate(ZERO, 4600, 100)).to.equal(0);
    expect(disk.size).to.equal(5120);
    expect(disk.calls).to.deep.equal(['zero 4600 100']);
  });

  it('SETATTR keeps size, owner and permissions, and takes times', () => {
    expect(setattr(8, 4096).error).to.equal(0);
    for (const size of [0, 4095, 8192]) expect(setattr(8, size).error).to.equal(E.EPERM);
    for (const valid of [1, 2, 4]) expect(setattr(valid).error).to.equal(E.EPERM);
    expect(setattr(16 | 32).error).to.equal(0);
    use(4096, true);
    expect(setattr(8, 8000).body.readBigUInt64LE(16 + 8)).to.equal(8192n);
    expect(setattr(8, 4096).error).to.equal(E.EPERM);
  });
});
