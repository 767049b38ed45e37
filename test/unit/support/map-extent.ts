/** Runs of a disk for the tests of its map. */

import type { Kind } from '../../../src/map/cells.js';
import type { MapExtent } from '../../../src/map/extents.js';

/** An extent of that kind. */
export function extent(kind: Kind, start: number, length: number, depth = 0): MapExtent {
  return {
    start,
    length,
    depth,
    present: kind !== 'absent',
    zero: kind === 'zero' || kind === 'absent',
    data: kind !== 'zero' && kind !== 'absent',
    compressed: kind === 'compressed',
    shared: kind === 'shared',
    problem: kind === 'damaged' ? 'bad' : undefined,
    offset: undefined,
  };
}
