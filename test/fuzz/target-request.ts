/** A few requests to one disk: every reply must be one that a kernel accepts, and say nothing that nobody wrote. */
import { join } from 'node:path';
import { DiskFs } from '../../src/fuse/disk-fs.js';
import { Dispatcher, REPLY_BYTES, REQUEST_BYTES } from '../../src/fuse/dispatch.js';
import { allocateInode } from '../../src/fuse/inode.js';
import { inHeader, Opcode, outHeader, readIn } from '../../src/fuse/protocol.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { attempt, Finding, judgeFailure } from './finding.js';
import type { RequestInput } from './input.js';
import { IMAGE, restoreSeed, type Seed } from './seeds.js';
import { unsynced } from './target-image.js';

const MAX_SECONDS = 4;
/** Linux: the last errno that a reply may carry. */
const MAX_ERRNO = 511;
/** In the reply before it is written: what comes out of it was left over from an earlier one. */
const STALE = Buffer.from('left over from an earlier reply.');
/** Every structure lies within these bytes. */
const MAX_STALE = 4096;
const NO_REPLY: ReadonlySet<number> = new Set([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT]);
/** A number that no kernel sends is refused by this. */
const NOT_EXACT = /exceeds 2\^53 - 1$/;

const request = Buffer.alloc(REQUEST_BYTES);
const reply = Buffer.alloc(REPLY_BYTES + 4096, STALE);
const BEHIND = Buffer.from(reply.subarray(REPLY_BYTES));

/** @throws Finding */
export async function runRequests(input: RequestInput, seed: Seed): Promise<void> {
  restoreSeed(seed);
  const disk = await openDisk(
    join(seed.dir, IMAGE),
    { secret: seed.secret, writable: input.access !== 'read-only', resizable: input.access === 'growable' },
    unsynced,
  );
  try {
    const failures: unknown[] = [];
    const name = input.isRoot ? undefined : 'disk';
    const attributes = { uid: 1, gid: 1, mode: 0o644, inode: allocateInode(disk.size, 1e12) };
    const files = new DiskFs(disk, { name, ...attributes, writeBack: !disk.readOnly && !disk.growable });
    const dispatcher = new Dispatcher(files, (error) => failures.push(error));
    for (const [index, hex] of input.requests.entries()) {
      const bytes = Buffer.from(hex, 'hex').subarray(0, REQUEST_BYTES);
      bytes.copy(request);
      const opcode = bytes.length >= 8 ? bytes.readUInt32LE(inHeader.offsets.opcode) : 0;
      const step = `opcode ${opcode}`;
      reply.fill(STALE);
      const length = await attempt(step, MAX_SECONDS, () =>
        dispatcher.dispatch(request, bytes.length, reply),
      );
      checkReply(bytes, length!, step);
      for (const failure of failures.splice(0)) {
        if (failure instanceof RangeError && NOT_EXACT.test(failure.message)) continue;
        judgeFailure(failure, `${step}, request ${index}`);
      }
    }
  } finally {
    await attempt('close', MAX_SECONDS, () => disk.close());
  }
}

function checkReply(bytes: Buffer, length: number, step: string): void {
  const bad = (what: string): Finding => new Finding('reply', step, what);
  const { len: LEN, opcode: OPCODE, unique: UNIQUE } = inHeader.offsets;
  const isWhole = bytes.length >= inHeader.size && bytes.readUInt32LE(LEN) === bytes.length;
  if (!reply.subarray(REPLY_BYTES).equals(BEHIND)) throw bad('what lies behind the reply was written');
  if (!isWhole || NO_REPLY.has(bytes.readUInt32LE(OPCODE))) {
    if (length !== 0) throw bad(`${length} bytes for a request that gets no reply`);
    return;
  }
  if (length < outHeader.size || length > REPLY_BYTES) throw bad(`${length} bytes`);
  const error = reply.readInt32LE(outHeader.offsets.error);
  if (reply.readUInt32LE(outHeader.offsets.len) !== length) throw bad('its length is another');
  if (reply.readBigUInt64LE(outHeader.offsets.unique) !== bytes.readBigUInt64LE(UNIQUE)) {
    throw bad('it answers another request');
  }
  if (error > 0 || error < -MAX_ERRNO) throw bad(`error ${error}`);
  if (error !== 0 && length !== outHeader.size) throw bad('an error with a body');
  for (let at = 0; at + 4 <= Math.min(length, MAX_STALE); at += 4) {
    const old = at % STALE.length;
    if (reply.compare(STALE, old, old + 4, at, at + 4) === 0) throw bad(`bytes of an earlier reply at ${at}`);
  }
  checkSize(bytes, length - outHeader.size, bad);
}

/** No more than was asked for. */
function checkSize(bytes: Buffer, length: number, bad: (what: string) => Finding): void {
  const opcode = bytes.readUInt32LE(inHeader.offsets.opcode);
  if (opcode !== Opcode.READ && opcode !== Opcode.READDIR && opcode !== Opcode.READDIRPLUS) return;
  if (length === 0) return;
  const wanted = bytes.readUInt32LE(inHeader.size + readIn.offsets.size);
  if (length > wanted) throw bad(`${length} bytes where ${wanted} were asked for`);
}
