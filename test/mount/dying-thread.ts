/**
 * Preloaded into a daemon (node --import): lets one of its threads die, in the way that DYING_WAY names, as soon as the
 * file that DYING_TRIGGER names exists. A second name of that file, with `.taken` behind, tells that it happened.
 */
import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { interceptSyncs, interceptTransfers } from '../support/host-calls.js';

/**
 *   request, reply   an exception that nobody expects, at a call to /dev/fuse
 *   data             the thread is gone in the middle of a write to the image; it holds the lock
 *   sync             the thread is gone in the middle of a flush
 */
export type DyingWay = 'request' | 'reply' | 'data' | 'sync';

const { DYING_WAY: way, DYING_TRIGGER: trigger } = process.env;
const EXIT_CODE = 3;

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
  interceptTransfers(({ direction, length, position }, perform) => {
    const call = direction === 'read' ? 'request' : 'reply';
    if (way === call && position === undefined && isTurn()) throw new TypeError('injected');
    if (way === 'data' && direction === 'write' && position !== undefined && isTurn()) {
      perform(Math.ceil(length / 2));
      process.exit(EXIT_CODE);
    }
    return perform(length);
  });
  interceptSyncs((perform) => {
    if (way === 'sync' && isTurn()) process.exit(EXIT_CODE);
    perform();
  });
}
