/**
 * Preloaded into a daemon (node --import): lets its main thread or one of its others run out of memory, as HUNGRY_THREAD
 * says, as soon as the file that HUNGRY_TRIGGER names exists.
 */
import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { interceptTransfers } from '../support/host-calls.js';

export type HungryThread = 'main' | 'serving';

const { HUNGRY_THREAD: hungry, HUNGRY_TRIGGER: trigger } = process.env;
const POLL_MS = 10;

function eat(): never {
  for (const hoard: unknown[] = []; ; ) hoard.push(Array.from({ length: 10_000 }, () => ({})));
}

const isTurn = (): boolean => fs.existsSync(trigger!);

if (hungry === 'main' && isMainThread) setInterval(() => isTurn() && eat(), POLL_MS).unref();
if (hungry === 'serving' && !isMainThread) {
  interceptTransfers(({ direction, length, position }, perform) => {
    const done = perform(length);
    if (direction === 'read' && position === undefined && isTurn()) eat();
    return done;
  });
}
