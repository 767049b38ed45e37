import {
  EXTENSION,
  fileLength,
  l2EntryOffset,
  patchField,
  patchL1,
  patchL2,
  patchNumber,
  readL1,
  readL2,
  truncateImage,
} from '../../support/damage.js';
import { refcountBlocks } from '../../support/dirty-images.js';
import {
  compressed,
  externalData,
  luks,
  plain,
  refcountsOf,
  snapshots,
  sparse,
  version2,
  zerosAbove,
} from '../bases.js';
import {
  CLUSTER,
  COMPRESSED,
  COPIED,
  cutOffTable,
  type Damage,
  dataOf,
  extension,
  FAR,
  field,
  GUEST,
  NEXT,
  onMetadata,
  setL1,
  setL2,
  setRefcount,
} from './surgery.js';

export const places: Readonly<Record<string, Damage>> = {
  'a data cluster outside the file': {
    base: plain,
    damage: setL2(() => COPIED | FAR),
    kinds: ['outside-file', 'leak'],
    repair: 'remains',
  },
  'a data cluster that is not aligned': {
    base: plain,
    damage: setL2((entry) => entry + 512n),
    kinds: ['misplaced-data'],
    repair: 'remains',
  },
  'a zero cluster that is not aligned': {
    base: plain,
    damage: (path) => patchL2(path, GUEST, (readL2(path, GUEST) + 512n) | 1n),
    kinds: ['misplaced-zeros'],
    repair: 'changed',
  },
  'a zero cluster that is not aligned, above a backing file': {
    base: zerosAbove,
    damage: setL2((entry) => entry + 512n),
    kinds: ['misplaced-zeros'],
    repair: 'mended',
  },
  'two entries that name one data cluster': {
    base: plain,
    damage: (path) => patchL2(path, NEXT, readL2(path, GUEST)),
    kinds: ['refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'a data cluster on the header': {
    base: plain,
    damage: (path) => patchL2(path, 0, COMPRESSED | 300n),
    kinds: ['overlap', 'refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'a data cluster on the L1 table': {
    base: plain,
    damage: onMetadata((path) => field(path, 'l1TableOffset')),
    kinds: ['overlap', 'refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'a data cluster on its own L2 table': {
    base: plain,
    damage: onMetadata((path) => BigInt(l2EntryOffset(path, GUEST)) & ~BigInt(CLUSTER - 1)),
    kinds: ['overlap', 'refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'a data cluster on the refcount table': {
    base: plain,
    damage: onMetadata((path) => field(path, 'refcountTableOffset')),
    kinds: ['refcount-structure', 'leak'],
    repair: 'changed',
  },
  'a data cluster on a refcount block': {
    base: plain,
    damage: onMetadata((path) => refcountBlocks(path)[0]!.offset),
    kinds: ['refcount-structure'],
    repair: 'changed',
  },
  'a data cluster on the snapshot table': {
    base: snapshots,
    damage: (path) => patchL2(path, 0, COPIED | field(path, 'snapshotsOffset')),
    kinds: ['overlap', 'refcount-too-low'],
    repair: 'changed',
  },
  'a data cluster on the LUKS header': {
    base: luks,
    damage: (path) =>
      patchL2(path, 0, COPIED | extension(path, EXTENSION.encryption).data.readBigUInt64BE(0)),
    kinds: ['overlap', 'refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'an L2 table outside the file': {
    base: plain,
    damage: setL1(() => COPIED | FAR),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'an L2 table that is not aligned': {
    base: plain,
    damage: setL1((entry) => entry + 512n),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'an L2 table on the L1 table': {
    base: plain,
    damage: setL1((_, path) => COPIED | field(path, 'l1TableOffset')),
    kinds: ['metadata-overlap'],
    repair: 'remains',
  },
  'one L2 table for two L1 entries': {
    base: plain,
    damage: (path) => patchL1(path, 1, readL1(path, 0)),
    kinds: ['refcount-too-low', 'leak'],
    repair: 'changed',
  },
  'an L1 table outside the file': {
    base: plain,
    damage: (path) => patchField(path, 'l1TableOffset', 0x4000_0000),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'an L1 table that is cut off': {
    base: sparse,
    damage: (path) =>
      cutOffTable(path, Number(field(path, 'l1TableOffset')), 8, (end) =>
        patchField(path, 'l1TableOffset', end),
      ),
    kinds: ['lost-table', 'leak'],
    repair: 'remains',
    reference: 'milder',
  },
  'an L1 table of which the end is missing where nothing is': {
    base: sparse,
    damage: (path) =>
      cutOffTable(path, Number(field(path, 'l1TableOffset')), 3 * 8, (end) =>
        patchField(path, 'l1TableOffset', end),
      ),
    kinds: ['lost-table'],
    repair: 'remains',
    reference: 'silent',
  },
  'an L1 entry that has nothing but the COPIED flag': {
    base: sparse,
    damage: (path) => patchL1(path, 5, COPIED),
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
  'a compressed cluster outside the file': {
    base: compressed,
    damage: (path) => patchL2(path, 0, COMPRESSED | 0x4000_0000n),
    kinds: ['outside-file'],
    repair: 'remains',
  },
  'a file that was cut in the middle': {
    base: plain,
    damage: (path) => truncateImage(path, Math.floor(fileLength(path) / 2)),
    kinds: ['outside-file'],
    repair: 'remains',
  },
  'a file that ends where its last cluster began': {
    base: refcountsOf(16),
    damage: (path) => truncateImage(path, (Math.ceil(fileLength(path) / CLUSTER) - 1) * CLUSTER),
    kinds: ['outside-file'],
    repair: 'remains',
  },
  'a file that was cut off, and a leak': {
    base: plain,
    damage: (path) => {
      truncateImage(path, Math.floor((0.7 * fileLength(path)) / CLUSTER) * CLUSTER);
      setRefcount(path, dataOf(path), 2);
    },
    kinds: ['outside-file', 'leak'],
    repair: 'remains',
  },
  'a file that was cut off, and a broken refcount block': {
    base: plain,
    damage: (path) => {
      truncateImage(path, Math.floor((0.7 * fileLength(path)) / CLUSTER) * CLUSTER);
      const { entry, offset } = refcountBlocks(path)[0]!;
      patchNumber(path, entry, 8, offset + 1);
    },
    kinds: ['outside-file', 'refcount-structure'],
    repair: 'remains',
  },
  'an entry of a data cluster that looks compressed': {
    base: plain,
    damage: setL2((entry) => entry | COMPRESSED),
    kinds: ['compressed-flag'],
    repair: 'remains',
  },
  'a compressed cluster where no file reaches': {
    base: compressed,
    damage: (path) => patchL2(path, 0, COMPRESSED | 0x15_5555_5555_5555n),
    kinds: ['misplaced-data'],
    repair: 'remains',
  },
  'a zero cluster in version 2': {
    base: version2,
    damage: (path) => patchL2(path, 0, readL2(path, 0) | 1n),
    kinds: ['zero-flag'],
    repair: 'remains',
    reference: 'silent',
  },
  'a zero cluster in version 2 that is not aligned': {
    base: version2,
    damage: (path) => patchL2(path, 0, readL2(path, 0) | 0x201n),
    kinds: ['zero-flag', 'misplaced-data'],
    repair: 'remains',
    reference: 'guesses',
  },
  'a compressed cluster in an image with a data file': {
    base: externalData,
    damage: (path) => patchL2(path, 0, COMPRESSED | 0x5_0000n),
    kinds: ['compressed-external'],
    repair: 'remains',
  },
  'a cluster of the data file in the wrong place': {
    base: externalData,
    damage: (path) => patchL2(path, 0, COPIED | 0x8_0000n),
    kinds: ['data-file-offset'],
    repair: 'remains',
    reference: 'silent',
  },
};
