import type { Storage } from '../../storage.js';
import { createTrace } from '../../trace.js';

const debug = createTrace('punch');

/**
 * Gives back what nothing refers to any more: a courtesy to the host. Where it cannot make holes, or fails to, the
 * bytes are unused all the same.
 */
export function punchIfPossible(storage: Storage, offset: number, length: number): void {
  try {
    storage.punch(offset, length);
  } catch (error) {
    debug('%s', error);
  }
}
