/** The bytes of replies: headers, attributes, and results as the trace shows them. */
import type { Attributes } from './disk-fs.js';
import * as fuse from './protocol.js';

/** Bytes before the body. */
export const REPLY_HEADER = fuse.outHeader.size;
/** The result of a request that gets no reply. */
export const NO_REPLY = Number.NEGATIVE_INFINITY;
/** Preferred size of reads and writes, as stat(2) tells it: bytes. */
export const BLOCK_SIZE = 4096;

const UNIQUE = fuse.inHeader.offsets.unique;
/** Seconds that the kernel may remember names: they never change. */
const NAME_SECONDS = 3600;

export function opcodeName(opcode: number): string {
  return Object.entries(fuse.Opcode).find(([, value]) => value === opcode)?.[0] ?? `opcode ${opcode}`;
}

export function describeResult(result: number): string {
  if (result === NO_REPLY) return 'no reply';
  return result < 0 ? `errno ${-result}` : `${result} bytes`;
}

/**
 * Completes a reply whose body is there.
 * @param result bytes of the body, or a negative errno
 * @returns bytes of the reply
 */
export function finish(request: Buffer, reply: Buffer, result: number): number {
  const length = REPLY_HEADER + Math.max(0, result);
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(Math.min(0, result), 4);
  reply.writeUInt32LE(request.readUInt32LE(UNIQUE), 8);
  reply.writeUInt32LE(request.readUInt32LE(UNIQUE + 4), 12);
  return length;
}

export function writeEntry(reply: Buffer, at: number, attributes: Attributes): void {
  fuse.entryHead.write(reply, at, {
    nodeid: attributes.inode,
    generation: 0,
    entryValid: NAME_SECONDS,
    attrValid: attributes.validSeconds,
    entryValidNsec: 0,
    attrValidNsec: 0,
  });
  writeAttr(reply, at + fuse.entryHead.size, attributes);
}

export function writeAttr(reply: Buffer, at: number, attributes: Attributes): void {
  const { inode, size, blocks, mode, links, uid, gid } = attributes;
  const [atime, mtime, ctime] = [attributes.atime, attributes.mtime, attributes.ctime].map(split);
  fuse.attr.write(reply, at, {
    ino: inode,
    size,
    blocks,
    atime: atime!.seconds,
    mtime: mtime!.seconds,
    ctime: ctime!.seconds,
    atimensec: atime!.nanoseconds,
    mtimensec: mtime!.nanoseconds,
    ctimensec: ctime!.nanoseconds,
    mode,
    nlink: links,
    uid,
    gid,
    rdev: 0,
    blksize: BLOCK_SIZE,
    flags: 0,
  });
}

/** @param time nanoseconds since 1970; the rest of one before is positive, too, as in a timespec */
function split(time: bigint): { readonly seconds: number; readonly nanoseconds: number } {
  const nanoseconds = ((time % BILLION) + BILLION) % BILLION;
  return { seconds: Number((time - nanoseconds) / BILLION), nanoseconds: Number(nanoseconds) };
}
const BILLION = 1_000_000_000n;
