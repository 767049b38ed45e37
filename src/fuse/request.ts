/** The bytes of requests that are read without decoding a structure, because they come all the time; and times. */
import type { Times } from './inode.js';
import * as fuse from './protocol.js';

/** Offsets of the fields that the hot path reads without decoding a structure. */
export const { len: LEN, opcode: OPCODE, nodeid: NODEID } = fuse.inHeader.offsets;
export const BODY = fuse.inHeader.size;
export const READ_OFFSET = BODY + fuse.readIn.offsets.offset;
export const READ_SIZE = BODY + fuse.readIn.offsets.size;
/** Requests about an open descriptor begin with its file handle. */
export const HANDLE = BODY;
export const HANDLE_END = BODY + 8;
export const WRITE_OFFSET = BODY + fuse.writeIn.offsets.offset;
export const WRITE_SIZE = BODY + fuse.writeIn.offsets.size;
export const WRITE_CACHED = BODY + fuse.writeIn.offsets.writeFlags;
export const WRITE_OPEN_FLAGS = BODY + fuse.writeIn.offsets.flags;
export const WRITE_DATA = BODY + fuse.writeIn.size;
const TWO_32 = 0x1_0000_0000;

type SetattrIn = ReturnType<typeof fuse.setattrIn.read>;

/** The times that a SETATTR sets. */
export function timesIn(wanted: SetattrIn): Partial<Times> {
  const { valid } = wanted;
  const now = BigInt(Date.now()) * 1_000_000n;
  const ns = (seconds: number, rest: number): bigint => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
  const times: { -readonly [K in keyof Times]?: Times[K] } = {};
  if (valid & fuse.FATTR_ATIME)
    times.atime = valid & fuse.FATTR_ATIME_NOW ? now : ns(wanted.atime, wanted.atimensec);
  if (valid & fuse.FATTR_MTIME)
    times.mtime = valid & fuse.FATTR_MTIME_NOW ? now : ns(wanted.mtime, wanted.mtimensec);
  if (valid & fuse.FATTR_CTIME) times.ctime = ns(wanted.ctime, wanted.ctimensec);
  else if (times.atime !== undefined || times.mtime !== undefined) times.ctime = now;
  return times;
}

/** A 64-bit number; one above 2^53 is not exact, and lies beyond every disk. */
export function readU64(request: Buffer, at: number): number {
  return request.readUInt32LE(at) + request.readUInt32LE(at + 4) * TWO_32;
}
