/** COPIED flags and reserved bits. */

import { patchNumber, readNumber, snapshotEntryOffset } from '../../support/damage.js';
import { flipCopied } from '../../support/dirty-images.js';
import { KiB } from '../../support/images.js';
import { compressed, externalData, plain, snapshots } from '../bases.js';
import { COPIED, type Damage, SHARED, setL1, setL2 } from './surgery.js';

export const flags: Readonly<Record<string, Damage>> = {
  'COPIED clear in an L2 entry': {
    base: plain,
    damage: setL2((entry) => entry & ~COPIED),
    kinds: ['copied-flag'],
    repair: 'mended',
  },
  'COPIED clear in an L1 entry': {
    base: plain,
    damage: setL1((entry) => entry & ~COPIED),
    kinds: ['copied-flag'],
    repair: 'mended',
  },
  'COPIED set where a snapshot shares the cluster': {
    base: snapshots,
    damage: setL2((entry) => entry | COPIED, SHARED),
    kinds: ['copied-flag'],
    repair: 'mended',
  },
  'all COPIED flags wrong': { base: plain, damage: flipCopied, kinds: ['copied-flag'], repair: 'mended' },
  'COPIED clear in an image with a data file': {
    base: externalData,
    damage: setL2((entry) => entry & ~COPIED, 3 * 64 * KiB),
    kinds: ['copied-flag'],
    repair: 'mended',
  },
  'COPIED set in a compressed entry': {
    base: compressed,
    damage: setL2((entry) => entry | COPIED, 0),
    kinds: ['compressed-flag'],
    repair: 'mended',
  },
  'reserved bits in an L1 entry': {
    base: plain,
    damage: setL1((entry) => entry | (1n << 60n) | 2n),
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
  'reserved bits in an L2 entry': {
    base: plain,
    damage: setL2((entry) => entry | (1n << 58n) | 4n),
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
  'the lowest reserved bit of an L2 entry': {
    base: plain,
    damage: setL2((entry) => entry | 2n),
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
  "reserved bits in a snapshot's L1 entry": {
    base: snapshots,
    damage: (path) => {
      const table = Number(readNumber(path, snapshotEntryOffset(path, 0), 8));
      patchNumber(path, table, 8, readNumber(path, table, 8) | (1n << 57n));
    },
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
};
