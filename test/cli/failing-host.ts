/**
 * Preloaded into `qcow2fs hash` (node --import). FAILING_RANGES, as in `4096-8192,10000-10512`: reads of these bytes of
 * the image fail as those of a bad disk do. DYING_AT: the thread that reads this byte is gone.
 */
import { isMainThread } from 'node:worker_threads';
import { interceptTransfers } from '../support/host-calls.js';

const EXIT_CODE = 3;

const { FAILING_RANGES: text = '', DYING_AT: dyingAt } = process.env;
const ranges = text
  .split(',')
  .filter(Boolean)
  .map((range) => range.split('-').map(Number) as [number, number]);

if (!isMainThread) {
  interceptTransfers(({ direction, length, position }, perform) => {
    if (direction === 'write' || position === undefined) return perform(length);
    const touches = (start: number, end: number): boolean => start < position + length && end > position;
    if (dyingAt !== undefined && touches(Number(dyingAt), Number(dyingAt) + 1)) process.exit(EXIT_CODE);
    if (ranges.some(([start, end]) => touches(start, end))) {
      throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    }
    return perform(length);
  });
}
