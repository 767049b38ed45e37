/** Writes of a table no more than what a repair changed of it. */
import type { Storage } from '../../storage.js';
import { SECTOR_SIZE } from '../format/units.js';

/**
 * Writes the sectors in which `after` differs from `before`, which is what the file holds at `position`.
 * @returns whether there were any
 */
export function writeChanges(storage: Storage, before: Buffer, after: Buffer, position: number): boolean {
  if (before.equals(after)) return false;
  const same = (at: number): boolean => {
    const end = Math.min(at + SECTOR_SIZE, after.length);
    return before.compare(after, at, end, at, end) === 0;
  };
  for (let at = 0; at < after.length; ) {
    if (same(at)) {
      at += SECTOR_SIZE;
      continue;
    }
    let end = at + SECTOR_SIZE;
    while (end < after.length && !same(end)) end += SECTOR_SIZE;
    end = Math.min(end, after.length);
    storage.write(after, at, end - at, position + at);
    at = end;
  }
  return true;
}
