/**
 * Preloaded into a daemon (node --import): now and then its threads wait in the middle of a call to a file, so that
 * others overtake them there. Requests and replies have no position, and are not held up.
 */
import fs from 'node:fs';
import { isMainThread, threadId } from 'node:worker_threads';
import { randomNumbers } from '../writing/random-guest.js';
import { type Shares, stall } from './stall.js';

/** Nobody here knows who holds the lock: many short ones. */
const STALLS: Shares = { all: 0.2, long: 0 };

if (!isMainThread) {
  const random = randomNumbers(Number(process.env['STALLING_SEED'] ?? 1) * 77 + threadId);
  const { readSync, writeSync, fdatasyncSync } = fs;
  const stalled = <T>(call: () => T): T => {
    stall(random, STALLS);
    const result = call();
    stall(random, STALLS);
    return result;
  };
  type Positioned = (
    fd: number,
    bytes: NodeJS.ArrayBufferView,
    from: number,
    length: number,
    at: number | null,
  ) => number;
  const slowed =
    (call: Positioned): Positioned =>
    (fd, bytes, from, length, at) =>
      at === null ? call(fd, bytes, from, length, at) : stalled(() => call(fd, bytes, from, length, at));
  Object.assign(fs, {
    readSync: slowed(readSync as Positioned),
    writeSync: slowed(writeSync as Positioned),
    fdatasyncSync: (fd: number) => stalled(() => fdatasyncSync(fd)),
  });
}
