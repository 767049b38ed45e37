/**
 * A process that uses a mounted disk at random until its parent says that it is enough: reads, writes, discards, zeros, flushes,
 * past the page cache and through it. Tells its parent from time to time how much it did.
 *
 *     node load.js DISK SEED read|write
 */
import fs from 'node:fs';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
  seekData,
} from '../../src/host/libc.js';
import { patternBytes } from '../support/pattern.js';

const { O_DIRECT, O_RDONLY, O_RDWR } = fs.constants;
const KiB = 1024;
const PAGE = 4 * KiB;
const MAX_PAGES = 64;
const BATCH = 64;
/** Milliseconds between two batches: who else uses the machine gets a part of it. */
const PAUSE = 10;

const [disk, seed, role] = process.argv.slice(2);
const mode = role === 'write' ? O_RDWR : O_RDONLY;
const buffered = fs.openSync(disk!, mode);
const direct = fs.openSync(disk!, mode | O_DIRECT);
const pages = Math.floor(fs.fstatSync(buffered).size / PAGE);
const memory = Buffer.alloc(MAX_PAGES * PAGE);
let state = Number(seed) | 1;

/** xorshift32: a load that can be repeated. */
function below(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

function step(): void {
  const page = below(pages);
  const length = Math.min(1 + below(MAX_PAGES), pages - page) * PAGE;
  const at = page * PAGE;
  const fd = below(2) === 0 ? buffered : direct;
  const dice = below(100);
  if (role !== 'write' || dice < 45) fs.readSync(fd, memory, 0, length, at);
  else if (dice < 85) {
    if (below(8) === 0) memory.set(patternBytes(state, at, MAX_PAGES * PAGE, 'noise'));
    fs.writeSync(fd, memory, 0, length, at);
  } else if (dice < 91) fallocate(buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length);
  else if (dice < 95) fallocate(buffered, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, length);
  else if (dice < 98) fs.fdatasyncSync(fd);
  else seekData(buffered, at);
}

function work(): void {
  for (let count = 0; count < BATCH; count++) step();
  // Without a listener nobody is left to be told of an error either.
  process.send!(BATCH, () => {});
  if (isOver) process.disconnect();
  else setTimeout(work, PAUSE);
}

let isOver = false;
process.once('message', () => {
  isOver = true;
});
// Without its parent it has nothing to do.
process.once('disconnect', () => process.exit(0));
work();
