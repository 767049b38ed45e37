/** Bitmaps of subclusters. */

import {
  l2EntryOffset,
  patchNumber,
  patchSubclusterBitmap,
  readSubclusterBitmap,
} from '../../support/damage.js';
import { extended, extendedExternal } from '../bases.js';

import type { Damage } from './surgery.js';

export const subclusters: Readonly<Record<string, Damage>> = {
  'a subcluster that is allocated and zero, at offset 0 of a data file': {
    base: extendedExternal,
    damage: (path) => patchSubclusterBitmap(path, 0, readSubclusterBitmap(path, 0) | (1n << 32n) | 1n),
    kinds: ['subcluster-bitmap'],
    repair: 'changed',
  },
  'a subcluster that is allocated and zero': {
    base: extended,
    damage: (path) => patchSubclusterBitmap(path, 0, readSubclusterBitmap(path, 0) | (1n << 32n) | 1n),
    kinds: ['subcluster-bitmap'],
    repair: 'changed',
  },
  'allocated subclusters without a cluster': {
    base: extended,
    damage: (path) => {
      const entry = l2EntryOffset(path, 0) + 16 * 31;
      patchNumber(path, entry, 8, 0);
      patchNumber(path, entry + 8, 8, 1);
    },
    kinds: ['subclusters-lost'],
    repair: 'remains',
  },
};
