/**
 * Preloaded into a daemon (node --import): now and then its threads wait in the middle of a call to a file, so that
 * others overtake them there. Requests and replies have no position, and are not held up.
 */
import { isMainThread, threadId } from 'node:worker_threads';
import { type Shares, stall } from '../support/contention/stall.js';
import { interceptSyncs, interceptTransfers } from '../support/host-calls.js';
import { randomNumbers } from '../support/random-guest.js';

/** Nobody here knows who holds the lock: many short ones. */
const STALLS: Shares = { all: 0.2, long: 0 };

if (!isMainThread) {
  const random = randomNumbers(Number(process.env['STALLING_SEED'] ?? 1) * 77 + threadId);
  const stalled = <T>(call: () => T): T => {
    stall(random, STALLS);
    const result = call();
    stall(random, STALLS);
    return result;
  };
  interceptTransfers(({ length, position }, perform) =>
    position === undefined ? perform(length) : stalled(() => perform(length)),
  );
  interceptSyncs(stalled);
}
