import { expect } from 'chai';
import { DiskFs } from '../../../src/fuse/disk-fs.js';
import { Dispatcher, MAX_TRANSFER, REPLY_BYTES } from '../../../src/fuse/dispatch.js';
import { allocateInode, setCounted } from '../../../src/fuse/inode.js';
import { Random } from '../../support/random.js';
import { FakeDisk } from '../support/fake-disk.js';

// Linux include/uapi/linux/fuse.h, independent of src/.
const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  MKDIR: 9,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
};
const OP2 = { INIT: 26, OPENDIR: 27, READDIR: 28, INTERRUPT: 36, BATCH_FORGET: 42, FALLOCATE: 43 };
const OP3 = { READDIRPLUS: 44, LSEEK: 46 };
const E = { ENOENT: 2, EIO: 5, ENXIO: 6, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, EROFS: 30, ENOSYS: 38 };
const UNIQUE = 0xfedcba9876543210n;
const SIZE = 4608;
const INODE = allocateInode(SIZE, 1500);
setCounted(INODE, 512);
const OPTIONS = { name: 'disk.raw', uid: 1000, gid: 100, mode: 0o644, inode: INODE, writeBack: false };

interface Reply {
  readonly length: number;
  readonly error: number;
  readonly body: Buffer;
}

function request(opcode: number, nodeid: number, body: Buffer): Buffer {
  const bytes = Buffer.alloc(40 + body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(opcode, 4);
  bytes.writeBigUInt64LE(UNIQUE, 8);
  bytes.writeBigUInt64LE(BigInt(nodeid), 16);
  body.copy(bytes, 40);
  return bytes;
}

function u32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => {
    bytes.writeUInt32LE(value >>> 0, 4 * index);
  });
  return bytes;
}

function readBody(offset: number, size: number): Buffer {
  const bytes = Buffer.alloc(40);
  bytes.writeBigInt64LE(BigInt(offset), 8);
  bytes.writeUInt32LE(size, 16);
  return bytes;
}

function seekBody(offset: number, whence: number): Buffer {
  return readBody(offset, whence).subarray(0, 24);
}

describe('a FUSE request', () => {
  const disk = new FakeDisk([1000, SIZE - 1512, 512]);
  const failures: unknown[] = [];
  const listener = (error: unknown) => failures.push(error);
  const dispatcher = new Dispatcher(new DiskFs(disk, OPTIONS), listener);
  const single = new Dispatcher(new DiskFs(disk, { ...OPTIONS, name: undefined }), listener);
  const reply = Buffer.alloc(REPLY_BYTES);

  beforeEach(() => {
    disk.failure = undefined;
    failures.length = 0;
    reply.fill(0xcc);
  });

  function ask(opcode: number, nodeid: number, body: Buffer = Buffer.alloc(0), to = dispatcher): Reply {
    const bytes = request(opcode, nodeid, body);
    const length = to.dispatch(bytes, bytes.length, reply);
    if (length > 0) {
      expect(reply.readUInt32LE(0)).to.equal(length);
      expect(reply.readBigUInt64LE(8)).to.equal(UNIQUE);
    }
    return { length, error: -reply.readInt32LE(4), body: reply.subarray(16, Math.max(16, length)) };
  }

  function init(major: number, minor: number, flags: number, rest: number[] = []): Reply {
    return ask(OP2.INIT, 0, u32s(major, minor, 0x20000, flags, ...rest));
  }

  it('INIT grants what both sides know', () => {
    const { body } = init(7, 99, 0xffff_ffff, [0xffff_ffff, ...Array(11).fill(0)]);
    expect(body.length).to.equal(64);
    expect([body.readUInt32LE(0), body.readUInt32LE(4), body.readUInt32LE(8)]).to.deep.equal([
      7,
      38,
      MAX_TRANSFER,
    ]);
    const flags = body.readUInt32LE(12);
    expect(flags & (1 << 16), 'no write-back cache for a disk that is read-only').to.equal(0);
    expect(flags & (1 << 22)).not.to.equal(0);
    expect(body.readUInt32LE(20)).to.equal(MAX_TRANSFER);
    expect(body.readUInt32LE(32)).to.equal(1 << 4);
    expect(init(7, 31, 0, Array(12).fill(0)).body.readUInt32LE(12)).to.equal(0);
  });

  it('INIT of an old kernel has 16 bytes, and nothing beyond them is granted', () => {
    const { body, error } = init(7, 31, 0x2001);
    expect(error).to.equal(0);
    expect([body.readUInt32LE(4), body.readUInt32LE(12), body.readUInt32LE(32)]).to.deep.equal([
      31, 0x2001, 0,
    ]);
    expect(ask(OP2.INIT, 0, u32s(7, 31, 0)).error).to.equal(E.EINVAL);
  });

  it('LOOKUP finds the disk and nothing else', () => {
    const { body } = ask(OP.LOOKUP, 1, Buffer.from('disk.raw\0'));
    expect(body.length).to.equal(128);
    expect(body.readBigUInt64LE(0)).to.equal(2n);
    expect(body.readBigUInt64LE(40 + 8)).to.equal(4608n);
    expect(body.readUInt32LE(40 + 60)).to.equal(0o100444);
    expect(ask(OP.LOOKUP, 1, Buffer.from('disk\0')).error).to.equal(E.ENOENT);
    expect(ask(OP.LOOKUP, 2, Buffer.from('disk.raw\0')).error).to.equal(E.ENOENT);
    expect(ask(OP.LOOKUP, 1).error).to.equal(E.ENOENT);
  });

  it('GETATTR knows the directory and the disk', () => {
    const directory = ask(OP.GETATTR, 1, Buffer.alloc(16)).body;
    expect(directory.length).to.equal(104);
    expect(directory.readUInt32LE(16 + 60)).to.equal(0o040555);
    const file = ask(OP.GETATTR, 2, Buffer.alloc(16)).body;
    expect(file.readBigUInt64LE(16)).to.equal(2n);
    expect([file.readBigUInt64LE(16 + 32), file.readUInt32LE(16 + 52)]).to.deep.equal([1n, 500_000_000]);
    expect(ask(OP.GETATTR, 3, Buffer.alloc(16)).error).to.equal(E.ENOENT);
  });

  for (const [name, opcode, head] of [
    ['READDIR', OP2.READDIR, 0],
    ['READDIRPLUS', OP3.READDIRPLUS, 128],
  ] as const) {
    it(`${name} gives whole entries that fit, and continues after the last one`, () => {
      const names: string[] = [];
      let offset = 0;
      for (;;) {
        const { body } = ask(opcode, 1, readBody(offset, head + 32 + 8));
        if (body.length === 0) break;
        expect(body.length).to.be.at.most(head + 40);
        names.push(body.toString('utf8', head + 24, head + 24 + body.readUInt32LE(head + 16)));
        offset = Number(body.readBigUInt64LE(head + 8));
      }
      expect(names).to.deep.equal(['.', '..', 'disk.raw']);
      expect(ask(opcode, 1, readBody(0, head + 31)).body.length).to.equal(0);
      expect(ask(opcode, 1, readBody(0, 4096)).body.length).to.equal(3 * (head + 32));
      expect(ask(opcode, 2, readBody(0, 4096)).error).to.equal(E.ENOTDIR);
    });
  }

  it('READDIRPLUS counts a look-up for the disk alone', () => {
    const { body } = ask(OP3.READDIRPLUS, 1, readBody(0, 4096));
    expect([0, 160, 320].map((at) => body.readBigUInt64LE(at))).to.deep.equal([0n, 0n, 2n]);
  });

  it('OPEN is for reading', () => {
    expect(ask(OP.OPEN, 2, u32s(0, 0)).body.length).to.equal(16);
    for (const flags of [1, 2]) expect(ask(OP.OPEN, 2, u32s(flags, 0)).error).to.equal(E.EROFS);
    expect(ask(OP.OPEN, 1, u32s(0, 0)).error).to.equal(E.EISDIR);
    expect(ask(OP2.OPENDIR, 2, u32s(0, 0)).error).to.equal(E.ENOTDIR);
  });

  it('READ gives the bytes inside the disk and no others', () => {
    for (const [offset, size, expected] of [
      [0, 10, 10],
      [4600, 8, 8],
      [4600, 100, 8],
      [4608, 1, 0],
      [2 ** 60, 4096, 0],
    ] as const) {
      const { body, error } = ask(OP.READ, 2, readBody(offset, size));
      expect(error).to.equal(0);
      expect([...body]).to.deep.equal(
        Array.from({ length: expected }, (_, i) => FakeDisk.byteAt(offset + i)),
      );
    }
    expect(ask(OP.READ, 1, readBody(0, 10)).error).to.equal(E.EISDIR);
    expect(ask(OP.READ, 2, readBody(0, MAX_TRANSFER + 1)).error).to.equal(E.EINVAL);
  });

  it('LSEEK finds data and holes, or ENXIO', () => {
    const data = ask(OP3.LSEEK, 2, seekBody(1000, 3));
    expect(data.body.readBigUInt64LE(0)).to.equal(4096n);
    expect(ask(OP3.LSEEK, 2, seekBody(5, 4)).body.readBigUInt64LE(0)).to.equal(1000n);
    expect(ask(OP3.LSEEK, 2, seekBody(4096, 4)).body.readBigUInt64LE(0)).to.equal(4608n);
    for (const whence of [3, 4]) {
      expect(ask(OP3.LSEEK, 2, seekBody(4608, whence)).error).to.equal(E.ENXIO);
      expect(ask(OP3.LSEEK, 2, seekBody(2 ** 60, whence)).error).to.equal(E.ENXIO);
    }
    expect(ask(OP3.LSEEK, 2, seekBody(-1, 3)).error).to.equal(E.ENXIO);
    expect(ask(OP3.LSEEK, 2, seekBody(0, 0)).error).to.equal(E.EINVAL);
  });

  it('STATFS gives the size of the disk, and as free what holds no data', () => {
    const { body } = ask(OP.STATFS, 1);
    expect(body.length).to.equal(80);
    const blockSize = body.readUInt32LE(48);
    const blocks = Math.ceil(SIZE / blockSize);
    const [total, free, available] = [0, 8, 16].map((at) => Number(body.readBigUInt64LE(at)));
    expect([total, free, available]).to.deep.equal([blocks, blocks - 1, blocks - 1]);
  });

  it('that would change something is EROFS', () => {
    for (const [opcode, size] of [
      [OP.SETATTR, 88],
      [OP.WRITE, 40],
      [OP2.FALLOCATE, 32],
      [OP.MKDIR, 16],
    ] as const) {
      expect(ask(opcode, 2, Buffer.alloc(size)).error).to.equal(E.EROFS);
    }
  });

  it('that nobody knows is ENOSYS', () => {
    for (const opcode of [0, 5, 39, 4096, 0xffff_ffff]) expect(ask(opcode, 2).error).to.equal(E.ENOSYS);
  });

  it('FORGET, BATCH_FORGET and INTERRUPT get no reply', () => {
    for (const opcode of [OP.FORGET, OP2.BATCH_FORGET, OP2.INTERRUPT]) {
      expect(ask(opcode, 1, Buffer.alloc(16)).length).to.equal(0);
    }
  });

  it('that is cut short or lies about its length does no harm', () => {
    const whole = request(OP.READ, 2, readBody(0, 10));
    for (let length = 0; length < whole.length; length++) {
      expect(dispatcher.dispatch(whole, length, reply)).to.equal(0);
      const cut = Buffer.from(whole);
      cut.writeUInt32LE(length, 0);
      expect(dispatcher.dispatch(cut, length, reply)).to.equal(length < 40 ? 0 : 16);
      if (length >= 40) expect(reply.readInt32LE(4)).to.equal(-E.EINVAL);
    }
  });

  it('that fails in the disk becomes EIO and is reported', () => {
    disk.failure = new Error('broken');
    expect(ask(OP.READ, 2, readBody(0, 10))).to.include({ error: E.EIO, length: 16 });
    expect(ask(OP3.LSEEK, 2, seekBody(0, 3)).error).to.equal(E.EIO);
    expect(failures).to.deep.equal([disk.failure, disk.failure]);
  });

  it('finds the disk as the root when the mountpoint is a file', () => {
    expect(ask(OP.GETATTR, 1, Buffer.alloc(16), single).body.readUInt32LE(16 + 60)).to.equal(0o100444);
    expect(ask(OP.READ, 1, readBody(3, 2), single).body.equals(Buffer.from([3, 4]))).to.equal(true);
    expect(ask(OP.LOOKUP, 1, Buffer.from('disk.raw\0'), single).error).to.equal(E.ENOENT);
    expect(ask(OP2.OPENDIR, 1, u32s(0, 0), single).error).to.equal(E.ENOTDIR);
    expect(ask(OP.GETATTR, 2, Buffer.alloc(16), single).error).to.equal(E.ENOENT);
  });

  it('of random bytes never throws, and its reply is as long as it says', () => {
    const random = new Random(4);
    for (let round = 0; round < 20_000; round++) {
      const bytes = request(random.below(64), random.below(4), random.bytes(random.below(100)));
      if (random.below(20) === 0) random.bytes(40).copy(bytes);
      const length = dispatcher.dispatch(bytes, bytes.length, reply);
      if (length === 0) continue;
      expect(length).to.be.within(16, REPLY_BYTES);
      expect(reply.readUInt32LE(0)).to.equal(length);
      const error = reply.readInt32LE(4);
      expect(error).to.be.within(-4095, 0);
      if (error !== 0) expect(length).to.equal(16);
    }
  });
});
