import {
  EXTENSION,
  patchBytes,
  patchField,
  patchNumber,
  readBytes,
  readNumber,
  setFeatureBit,
  snapshotEntryOffset,
} from '../../support/damage.js';
import { patchLuks, patchLuksSlot, readLuksSlot } from '../../support/damage-luks.js';
import { bitmaps, grownWithBitmap, luks, plain, refcountsOf, snapshots, sparse } from '../bases.js';
import {
  addLeak,
  bitmapDirectory,
  bitmapTable,
  COPIED,
  cutOffTable,
  type Damage,
  extension,
  FAR,
  setRefcount,
} from './surgery.js';

export const others: Readonly<Record<string, Damage>> = {
  "a snapshot's L1 table that is not aligned": {
    base: snapshots,
    damage: (path) => {
      const at = snapshotEntryOffset(path, 0);
      patchNumber(path, at, 8, readNumber(path, at, 8) + 512n);
    },
    kinds: ['lost-table'],
    repair: 'remains',
  },
  "a snapshot's L1 table that is cut off": {
    base: snapshots,
    damage: (path) => {
      const at = snapshotEntryOffset(path, 0);
      const table = Number(readNumber(path, at, 8));
      cutOffTable(path, table, 4, (end) => patchNumber(path, at, 8, end));
    },
    kinds: ['lost-table'],
    repair: 'remains',
  },
  "a snapshot's L1 entry that has nothing but the COPIED flag": {
    base: sparse,
    damage: (path) =>
      patchNumber(path, Number(readNumber(path, snapshotEntryOffset(path, 0), 8)) + 5 * 8, 8, COPIED),
    kinds: ['reserved-bits'],
    repair: 'mended',
  },
  'a snapshot table that is not aligned, for no snapshots': {
    base: plain,
    damage: (path) => patchField(path, 'snapshotsOffset', 512),
    kinds: ['snapshot-table'],
    repair: 'remains',
  },
  "a snapshot's L1 table outside the file": {
    base: snapshots,
    damage: (path) => patchNumber(path, snapshotEntryOffset(path, 0), 8, FAR),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'a snapshot table outside the file': {
    base: snapshots,
    damage: (path) => patchField(path, 'snapshotsOffset', 0x4000_0000),
    kinds: ['snapshot-table'],
    repair: 'remains',
    reference: 'guesses',
  },
  'snapshots that do not tell their disk size': {
    base: snapshots,
    damage: (path) => {
      let to = snapshotEntryOffset(path, 0);
      const entries = [0, 1].map((index) => {
        const at = snapshotEntryOffset(path, index);
        const extra = Number(readNumber(path, at + 36, 4));
        const names = Number(readNumber(path, at + 12, 2)) + Number(readNumber(path, at + 14, 2));
        return [readBytes(path, at, 40), readBytes(path, at + 40 + extra, names)] as const;
      });
      for (const [fixed, names] of entries) {
        const entry = Buffer.alloc(Math.ceil((40 + names.length) / 8) * 8);
        fixed.copy(entry, 0, 0, 36);
        names.copy(entry, 40);
        patchBytes(path, to, entry);
        to += entry.length;
      }
    },
    kinds: ['snapshot-incomplete'],
    repair: 'mended',
  },
  'a snapshot entry that claims too much': {
    base: snapshots,
    damage: (path) => patchNumber(path, snapshotEntryOffset(path, 1) + 36, 4, 5000),
    kinds: ['snapshot-table'],
    repair: 'remains',
  },
  "a snapshot's L1 table that is too short": {
    base: snapshots,
    damage: (path) => patchNumber(path, snapshotEntryOffset(path, 0) + 8, 4, 0),
    kinds: ['snapshot'],
    repair: 'remains',
    reference: 'milder',
  },
  'a bitmap table that is cut off': {
    base: bitmaps,
    damage: (path) =>
      cutOffTable(path, bitmapTable(path), 4, (end) => patchNumber(path, bitmapDirectory(path), 8, end)),
    kinds: ['lost-table', 'leak'],
    repair: 'remains',
    reference: 'milder',
  },
  'a leak beside a bitmap that was in use when the disk was resized': {
    base: grownWithBitmap,
    damage: addLeak,
    kinds: ['bitmap-in-use', 'leak'],
    repair: 'mended',
  },
  'bitmap data that is not aligned': {
    base: bitmaps,
    damage: (path) => patchNumber(path, bitmapTable(path), 8, BigInt(bitmapTable(path)) + 512n),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'reserved bits in a bitmap table': {
    base: bitmaps,
    damage: (path) => patchNumber(path, bitmapTable(path), 8, readNumber(path, bitmapTable(path), 8) | 4n),
    kinds: ['bitmap'],
    repair: 'remains',
  },
  'a bitmap table outside the file': {
    base: bitmaps,
    damage: (path) => patchNumber(path, bitmapDirectory(path), 8, 0x4000_0000),
    kinds: ['lost-table'],
    repair: 'remains',
    reference: 'guesses',
  },
  'a bitmap directory outside the file': {
    base: bitmaps,
    damage: (path) => patchNumber(path, extension(path, EXTENSION.bitmaps).offset + 16, 8, 0x4000_0000),
    kinds: ['lost-table'],
    repair: 'remains',
  },
  'bitmaps that a writer did not know': {
    base: bitmaps,
    damage: (path) => patchField(path, 'autoclearFeatures', 0),
    kinds: ['bitmaps-stale', 'leak'],
    repair: 'mended',
  },
  'a bitmap fewer than there are': {
    base: bitmaps,
    damage: (path) => patchNumber(path, extension(path, EXTENSION.bitmaps).offset, 4, 1),
    kinds: ['bitmap-directory'],
    repair: 'remains',
  },
  'no bitmaps, it is said': {
    base: bitmaps,
    damage: (path) => patchNumber(path, extension(path, EXTENSION.bitmaps).offset, 4, 0),
    kinds: ['bitmap-directory'],
    repair: 'remains',
  },
  'a bitmap directory that is too long': {
    base: bitmaps,
    damage: (path) => {
      const { offset, data } = extension(path, EXTENSION.bitmaps);
      patchNumber(path, offset + 8, 8, data.readBigUInt64BE(8) + 8n);
    },
    kinds: ['bitmap-directory'],
    repair: 'remains',
  },
  'a bitmap of an unknown type': {
    base: bitmaps,
    damage: (path) => patchNumber(path, bitmapDirectory(path) + 16, 1, 2),
    kinds: ['bitmap'],
    repair: 'remains',
  },
  'a bitmap table that is too long': {
    base: bitmaps,
    damage: (path) => patchNumber(path, bitmapDirectory(path) + 8, 4, 2),
    kinds: ['bitmap'],
    repair: 'remains',
  },
  'two bitmaps of one name': {
    base: bitmaps,
    damage: (path) => {
      const first = bitmapDirectory(path);
      const second = first + 32;
      patchNumber(path, second + 18, 2, readNumber(path, first + 18, 2));
      patchBytes(path, second + 24, readBytes(path, first + 24, 8));
      const { offset } = extension(path, EXTENSION.bitmaps);
      patchNumber(path, offset + 8, 8, 64);
    },
    kinds: ['bitmap'],
    repair: 'remains',
  },
  'a refcount of 0 of a bitmap table': {
    base: bitmaps,
    damage: (path) => setRefcount(path, bitmapTable(path), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 0 of the LUKS header': {
    base: luks,
    damage: (path) =>
      setRefcount(path, Number(extension(path, EXTENSION.encryption).data.readBigUInt64BE(0)), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a LUKS header that is said to be too short': {
    base: luks,
    damage: (path) => patchNumber(path, extension(path, EXTENSION.encryption).offset + 8, 8, 4096),
    kinds: ['luks', 'leak'],
    repair: 'remains',
  },
  'a LUKS header that is said to be empty': {
    base: luks,
    damage: (path) => patchNumber(path, extension(path, EXTENSION.encryption).offset + 8, 8, 0),
    kinds: ['luks', 'leak'],
    repair: 'remains',
  },
  'a key slot beyond the LUKS header': {
    base: luks,
    damage: (path) => patchLuksSlot(path, 0, 'keyMaterialOffset', 0x10_0000),
    kinds: ['luks'],
    repair: 'remains',
  },
  'two key slots in one place': {
    base: luks,
    damage: (path) => {
      patchLuksSlot(path, 1, 'active', readLuksSlot(path, 0, 'active'));
      patchLuksSlot(path, 1, 'iterations', 1000);
      patchLuksSlot(path, 1, 'keyMaterialOffset', readLuksSlot(path, 0, 'keyMaterialOffset'));
    },
    kinds: ['luks'],
    repair: 'remains',
  },
  'a LUKS header without an active key slot': {
    base: luks,
    damage: (path) => patchLuksSlot(path, 0, 'active', 57005),
    kinds: ['luks'],
    repair: 'remains',
  },
  'a LUKS header without its magic': {
    base: luks,
    damage: (path) => patchLuks(path, 'magic', 'XXXX'),
    kinds: ['luks'],
    repair: 'remains',
  },
  'the dirty bit': {
    base: plain,
    damage: (path) => setFeatureBit(path, 'incompatibleFeatures', 0),
    kinds: ['dirty'],
    repair: 'mended',
    reference: 'silent',
  },
  'the corrupt bit': {
    base: plain,
    damage: (path) => setFeatureBit(path, 'incompatibleFeatures', 1),
    kinds: ['marked-corrupt'],
    repair: 'mended',
    reference: 'silent',
  },
  'a leak in each width of refcounts that has whole bytes': {
    base: refcountsOf(8),
    damage: addLeak,
    kinds: ['leak'],
    repair: 'mended',
  },
};
