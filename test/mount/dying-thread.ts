/**
 * Preloaded into a daemon (node --import): lets one of its threads die, in the way that DYING_WAY names, as soon as the
 * file that DYING_TRIGGER names exists. A second name of that file, with `.taken` behind, tells that it happened.
 */
import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';

/**
 *   request, reply   an exception that nobody expects, at a call to /dev/fuse
 *   data             the thread is gone in the middle of a write to the image; it holds the lock
 *   sync             the thread is gone in the middle of a flush
 */
export type DyingWay = 'request' | 'reply' | 'data' | 'sync';

const { DYING_WAY: way, DYING_TRIGGER: trigger } = process.env;
const EXIT_CODE = 3;

type Transfer = (
  fd: number,
  bytes: NodeJS.ArrayBufferView | string,
  from: number,
  length: number,
  at: number | null,
) => number;

/** One thread alone dies, at the first call after the trigger came. */
function isTurn(): boolean {
  try {
    fs.linkSync(trigger!, `${trigger}.taken`);
    return true;
  } catch {
    return false;
  }
}

if (!isMainThread && way !== undefined) {
  const readSync = fs.readSync as Transfer;
  const writeSync = fs.writeSync as Transfer;
  const { fdatasyncSync } = fs;
  Object.assign(fs, {
    readSync: ((fd, bytes, from, length, at) => {
      if (way === 'request' && at === null && isTurn()) throw new TypeError('injected');
      return readSync(fd, bytes, from, length, at);
    }) satisfies Transfer,
    writeSync: ((fd, bytes, from, length, at) => {
      if (way === 'reply' && at === null && isTurn()) throw new TypeError('injected');
      if (way === 'data' && typeof at === 'number' && isTurn()) {
        writeSync(fd, bytes, from, Math.ceil(length / 2), at);
        process.exit(EXIT_CODE);
      }
      return writeSync(fd, bytes, from, length, at);
    }) satisfies Transfer,
    fdatasyncSync: (fd: number) => {
      if (way === 'sync' && isTurn()) process.exit(EXIT_CODE);
      fdatasyncSync(fd);
    },
  });
}
