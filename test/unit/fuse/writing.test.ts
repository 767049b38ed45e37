import { expect } from 'chai';
import { Qcow2fsError } from '../../../src/errors.js';
import { DiskFs } from '../../../src/fuse/disk-fs.js';
import { Dispatcher, REPLY_BYTES } from '../../../src/fuse/dispatch.js';
import { allocateInode, DiskInode } from '../../../src/fuse/inode.js';
import { WritableDisk } from '../support/writable-disk.js';

// Linux include/uapi/linux/fuse.h and errno(3), independent of src/.
const OP = { GETATTR: 3, SETATTR: 4, OPEN: 14, WRITE: 16, FSYNC: 20, FLUSH: 25, INIT: 26 };
const [RELEASE, FALLOCATE, LSEEK, SYNCFS] = [18, 43, 46, 50];
const E = {
  ECANCELED: 125,
  EPERM: 1,
  EIO: 5,
  ENXIO: 6,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EOPNOTSUPP: 95,
};
const KEEP = 1;
const PUNCH = 2;
const ZERO = 16;
const WRITE_CACHE = 1;
const O_DSYNC = 0o10000;
const OPTIONS = { name: 'disk.raw', uid: 1, gid: 2, mode: 0o644 };
const [O_RDONLY, O_WRONLY, O_RDWR] = [0, 1, 2];
const [SEEK_DATA, SEEK_HOLE] = [3, 4];
const [ATIME, MTIME, CTIME] = [1 << 4, 1 << 5, 1 << 10];

// SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, CREATE, RENAME2
const NAMES = [6, 8, 9, 10, 11, 12, 13, 35, 45];

describe('a FUSE request to a disk that can be written', () => {
  let disk: WritableDisk;
  let overruns: number;
  let inode: SharedArrayBuffer;
  let dispatcher: Dispatcher;
  const reply = Buffer.alloc(REPLY_BYTES);

  function use(size: number, growable: boolean): void {
    disk = new WritableDisk(size, growable);
    overruns = 0;
    inode = allocateInode(size, 0);
    dispatcher = new Dispatcher(
      new DiskFs(disk, { ...OPTIONS, inode, writeBack: !growable }),
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

  function write(
    offset: number,
    data: string,
    writeFlags = 0,
    flags = 0,
    descriptor: Buffer = Buffer.alloc(8),
  ): { error: number; body: Buffer } {
    const body = Buffer.alloc(40 + data.length);
    descriptor.copy(body, 0, 0, 8);
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
    return ask(FALLOCATE, body).error;
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
    // A disk that may grow has none: the kernel would take bytes that the image may refuse.
    use(4096, true);
    expect(ask(OP.INIT, body, 0).body.readUInt32LE(12) & (1 << 16)).to.equal(0);
  });

  /** @returns the reply: file handle and flags */
  function open(flags: number): Buffer {
    const body = Buffer.alloc(8);
    body.writeUInt32LE(flags, 0);
    return Buffer.from(ask(OP.OPEN, body).body);
  }

  /** About an open descriptor. @param descriptor as `open` gave it */
  function askOf(opcode: number, descriptor: Buffer): number {
    const body = Buffer.alloc(24);
    descriptor.copy(body, 0, 0, 8);
    return ask(opcode, body).error;
  }

  it('OPEN goes past the page cache for those who only write', () => {
    const isDirect = (flags: number): number => open(flags).readUInt32LE(8) & 1;
    expect([O_RDONLY, O_WRONLY, O_RDWR].map(isDirect)).to.deep.equal([0, 1, 0]);
  });

  it('FLUSH of a descriptor that cannot write hears nothing of the failures of others', () => {
    const reader = open(O_RDONLY);
    const writers = [open(O_WRONLY), open(O_RDWR)];
    disk.flush = () => {
      throw new Qcow2fsError('host-io', 'the last writes are lost');
    };
    expect(askOf(OP.FLUSH, reader)).to.equal(0);
    for (const writer of writers) expect(askOf(OP.FLUSH, writer)).to.equal(E.EIO);
    // Whoever asks for stable storage is told, whatever the descriptor.
    expect(askOf(OP.FSYNC, reader)).to.equal(E.EIO);
  });

  function seek(offset: number, whence: number): number {
    const body = Buffer.alloc(24);
    body.writeBigInt64LE(BigInt(offset), 8);
    body.writeUInt32LE(whence, 16);
    const { error, body: found } = ask(LSEEK, body);
    return error === 0 ? Number(found.readBigUInt64LE(0)) : -error;
  }

  it('LSEEK and GETATTR count everything as data while the kernel may hold bytes that have not come', () => {
    disk.holes = true;
    const blocks = (): number => Number(ask(OP.GETATTR, Buffer.alloc(16)).body.readBigUInt64LE(16 + 16));
    const seen = (): number[] => [seek(0, SEEK_DATA), seek(0, SEEK_HOLE), blocks()];
    const empty = [-E.ENXIO, 0, 0];
    const full = [0, 4096, 8];
    for (const flags of [O_RDONLY, O_WRONLY]) open(flags);
    expect(seen()).to.deep.equal(empty);
    const [first, second] = [open(O_RDWR), open(O_RDWR)];
    expect(seen()).to.deep.equal(full);
    askOf(RELEASE, first);
    expect(seen()).to.deep.equal(full);
    askOf(RELEASE, second);
    expect(seen()).to.deep.equal(empty);
  });

  it('GETATTR counts blocks again when something was written', () => {
    disk.holes = true;
    const blocks = (): bigint => ask(OP.GETATTR, Buffer.alloc(16)).body.readBigUInt64LE(16 + 16);
    expect(blocks()).to.equal(0n);
    disk.holes = false;
    write(0, 'x');
    expect(blocks()).to.equal(8n);
  });

  /** @returns seconds and nanoseconds, as GETATTR tells them */
  function timeAt(which: 0 | 1 | 2): [number, number] {
    const { body } = ask(OP.GETATTR, Buffer.alloc(16));
    return [Number(body.readBigInt64LE(16 + 24 + 8 * which)), body.readUInt32LE(16 + 48 + 4 * which)];
  }
  const mtime = (): number => timeAt(1)[0];

  function setTimes(valid: number, seconds: number, nanoseconds = 0): number {
    const body = Buffer.alloc(88);
    body.writeUInt32LE(valid, 0);
    for (const [index, at] of [32, 40, 48].entries()) {
      body.writeBigInt64LE(BigInt(seconds + index), at);
      body.writeUInt32LE(nanoseconds, 56 + 4 * index);
    }
    return ask(OP.SETATTR, body).error;
  }

  it('SETATTR sets times, to the nanosecond and before 1970, which GETATTR tells', () => {
    for (const seconds of [1_700_000_000, -5]) {
      expect(setTimes(ATIME | MTIME | CTIME, seconds, 123_456_789)).to.equal(0);
      for (const which of [0, 1, 2] as const) {
        expect(timeAt(which)).to.deep.equal([seconds + which, 123_456_789]);
      }
    }
  });

  it('WRITE past the page cache makes the close wait until the kernel knows the time, and nothing else', () => {
    const isLater = (): boolean => dispatcher.awaitsTime;
    const direct = open(O_WRONLY);
    write(0, 'x', 0, O_WRONLY, direct);
    expect(isLater()).to.equal(false);
    expect(mtime()).to.be.above(1_700_000_000);
    askOf(OP.FSYNC, direct);
    // The kernel may hold the inode's lock for these.
    expect(isLater(), 'it would wait for itself').to.equal(false);
    askOf(OP.FLUSH, direct);
    expect(isLater()).to.equal(true);
    const told = new DiskInode(inode, disk);
    told.beginTelling(1n);
    expect(told.takeOwedTime()).to.equal(true);
    askOf(OP.FLUSH, direct);
    expect(isLater(), 'it is being told').to.equal(true);
    told.endTelling();
    askOf(OP.FLUSH, direct);
    expect(isLater(), 'it was told').to.equal(false);
    write(0, 'x', WRITE_CACHE);
    askOf(OP.FLUSH, direct);
    expect(isLater(), 'the kernel knows of what it cached').to.equal(false);
  });

  it('SETATTR by the daemon is refused if a program has set another time in between', () => {
    const told = new DiskInode(inode, disk);
    const seconds = 1_700_000_001;
    told.beginTelling(BigInt(seconds) * 10n ** 9n);
    expect(setTimes(MTIME, seconds - 1, 0)).to.equal(0);
    expect(mtime()).to.equal(seconds);
    setTimes(ATIME | MTIME, 1000);
    expect(setTimes(MTIME, seconds - 1, 0)).to.equal(E.ECANCELED);
    expect(mtime()).to.equal(1001);
    told.endTelling();
    expect(setTimes(MTIME, seconds - 1, 0)).to.equal(0);
  });

  it('SETATTR of an older time by the kernel does not take back that of a WRITE that it does not know', () => {
    const direct = open(O_WRONLY);
    write(0, 'x', 0, O_WRONLY, direct);
    setTimes(MTIME | CTIME, 1000);
    expect(mtime()).to.be.above(1_700_000_000);
    write(0, 'x', 0, O_WRONLY, direct);
    setTimes(ATIME | MTIME, 1000);
    expect(mtime(), 'that of a program').to.equal(1001);
    expect(dispatcher.awaitsTime).to.equal(false);
  });

  it('changes of a disk that may grow move its time, also right after a program has set it', () => {
    use(4096, true);
    const changes = [
      () => write(0, 'x').error,
      () => fallocate(ZERO, 0, 1),
      () => setattr(8, disk.size + 1).error,
    ];
    for (const change of [...changes, ...changes]) {
      setTimes(ATIME | MTIME, 1000);
      expect(change()).to.equal(0);
      expect(mtime()).to.be.above(1_700_000_000);
      expect(dispatcher.awaitsTime).to.equal(false);
    }
  });

  it('GETATTR tells that the owner may write, and how much data there is', () => {
    const { body } = ask(OP.GETATTR, Buffer.alloc(16));
    expect(body.readUInt32LE(16 + 60)).to.equal(0o100644);
    expect(body.readBigUInt64LE(16 + 16)).to.equal(8n);
    expect(body.readBigUInt64LE(0)).to.equal(1n);
  });

  it('for another name than that of the disk is EPERM', () => {
    for (const opcode of NAMES) expect(ask(opcode, Buffer.alloc(64), 1).error, `${opcode}`).to.equal(E.EPERM);
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

  it('WRITE makes a disk larger that may grow, by bytes, and its image by sectors', () => {
    use(4096, true);
    const size = (): bigint => ask(OP.GETATTR, Buffer.alloc(16)).body.readBigUInt64LE(16 + 8);
    expect(write(5000, 'abc').error).to.equal(0);
    expect([disk.size, size()]).to.deep.equal([5120, 5003n]);
    expect(disk.content.toString('latin1', 5000, 5003)).to.equal('abc');
    expect(write(5003, 'defg').error).to.equal(0);
    expect([disk.size, size()]).to.deep.equal([5120, 5007n]);
    expect(write(4999, 'x').error).to.equal(0);
    expect(size()).to.equal(5007n);
    expect(setattr(8, 5006).error).to.equal(E.EPERM);
    expect(setattr(8, 5100).body.readBigUInt64LE(16 + 8)).to.equal(5100n);
    expect([disk.size, overruns]).to.deep.equal([5120, 0]);
  });

  it('WRITE that makes the disk larger and then fails leaves its size', () => {
    use(4096, true);
    disk.failure = new Qcow2fsError('no-space', 'the host is full');
    expect(write(5000, 'abc').error).to.equal(E.ENOSPC);
    expect(disk.size).to.equal(4096);
    expect(ask(OP.GETATTR, Buffer.alloc(16)).body.readBigUInt64LE(16 + 8)).to.equal(4096n);
  });

  it('WRITE that cannot make the disk larger leaves its size', () => {
    use(4096, true);
    disk.resize = () => {
      throw new Qcow2fsError('too-large', 'clusters of this size cannot map so much');
    };
    expect(write(2 ** 50, 'x').error).to.equal(E.EFBIG);
    expect(ask(OP.GETATTR, Buffer.alloc(16)).body.readBigUInt64LE(16 + 8)).to.equal(4096n);
  });

  it('WRITE, SETATTR and FALLOCATE beyond what a number can hold are too large', () => {
    use(4096, true);
    expect(write(2 ** 60, 'x').error).to.equal(E.EFBIG);
    expect(setattr(8, 2 ** 60).error).to.equal(E.EFBIG);
    expect(fallocate(0, 2 ** 60, 1)).to.equal(E.EFBIG);
    expect(disk.size).to.equal(4096);
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
    const writer = open(O_RDWR);
    for (const opcode of [OP.FSYNC, OP.FLUSH, SYNCFS]) expect(askOf(opcode, writer)).to.equal(0);
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
    expect(setattr(8, 8000).body.readBigUInt64LE(16 + 8)).to.equal(8000n);
    expect(disk.size).to.equal(8192);
    expect(setattr(8, 4096).error).to.equal(E.EPERM);
  });
});
