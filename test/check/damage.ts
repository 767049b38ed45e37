/** Kinds of damage, each with what a check must make of it. The reference is asked in the test. */

import type { FindingKind } from '../../src/qcow2/check/finding.js';
import {
  EXTENSION,
  fileLength,
  hostOffset,
  l2EntryOffset,
  patchBytes,
  patchField,
  patchL1,
  patchL2,
  patchNumber,
  patchSubclusterBitmap,
  readBytes,
  readExtensions,
  readField,
  readL1,
  readL2,
  readNumber,
  readSubclusterBitmap,
  setFeatureBit,
  snapshotEntryOffset,
  truncateImage,
} from '../support/damage.js';
import { patchLuks, patchLuksSlot, readLuksSlot } from '../support/damage-luks.js';
import { KiB, MiB } from '../support/images.js';
import { flipCopied, refcountBlocks } from '../unit/qcow2/repair/dirty-images.js';
import {
  type Base,
  bitmaps,
  compressed,
  extended,
  extendedExternal,
  externalData,
  grownWithBitmap,
  luks,
  plain,
  refcountsOf,
  snapshots,
  sparse,
  tinyClusters,
  version2,
} from './bases.js';

export interface Damage {
  readonly base: Base;
  readonly damage: (path: string) => void;
  /** What the check must find, at least. */
  readonly kinds: readonly FindingKind[];
  /**
   * After `--repair all`: `mended`: sound, and it reads as before the damage. `changed`: sound, but some bytes are lost.
   * `remains`: it is told, and nothing is changed that would make it worse.
   */
  readonly repair: 'mended' | 'changed' | 'remains';
  /**
   * Where the reference says something else. `silent`: it does not look for it. `milder`: it calls it a leak. `guesses`:
   * its repair drops what it cannot read.
   */
  readonly reference?: 'silent' | 'milder' | 'guesses';
}

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const FAR = 0x7f00_0000_0000n;
const CLUSTER = 4 * KiB;
/** A data cluster of `plain`, and a neighbour. */
const GUEST = 0;
const NEXT = GUEST + 2 * CLUSTER;
/** A data cluster that `snapshots` shares with a snapshot. */
const SHARED = 200 * KiB;

/** Where the refcount of the cluster at a host offset lies: byte offset, for widths of whole bytes. */
function refcountPlace(path: string, offset: number): { readonly at: number; readonly bytes: number } {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const order = readField(path, 'version') === 2n ? 4 : Number(readField(path, 'refcountOrder'));
  const bytes = 2 ** order / 8;
  const perBlock = clusterSize / bytes;
  const cluster = Math.floor(offset / clusterSize);
  const block = refcountBlocks(path).find(({ index }) => index === Math.floor(cluster / perBlock));
  if (block === undefined) throw new Error(`${path}: no refcount block for ${offset}`);
  return { at: block.offset + (cluster % perBlock) * bytes, bytes };
}

function setRefcount(path: string, offset: number, count: number): void {
  const { at, bytes } = refcountPlace(path, offset);
  patchNumber(path, at, bytes, count);
}

const field = readField;
const dataOf = (path: string, guest = GUEST): number => hostOffset(path, guest);
const extension = (path: string, type: number): { offset: number; data: Buffer } =>
  readExtensions(path).find((one) => one.type === type)!;
const bitmapDirectory = (path: string): number =>
  Number(extension(path, EXTENSION.bitmaps).data.readBigUInt64BE(16));
const bitmapTable = (path: string): number => Number(readNumber(path, bitmapDirectory(path), 8));
const setL2 =
  (change: (entry: bigint, path: string) => bigint, guest = GUEST) =>
  (path: string) =>
    patchL2(path, guest, change(readL2(path, guest), path));
const setL1 =
  (change: (entry: bigint, path: string) => bigint, index = 0) =>
  (path: string) =>
    patchL1(path, index, change(readL1(path, index), path));
const onMetadata = (target: (path: string) => bigint | number): ((path: string) => void) =>
  setL2((_, path) => COPIED | BigInt(target(path)));

/** A cluster at the end of the file that nothing uses, counted once. */
function addLeak(path: string): void {
  const clusterSize = 2 ** Number(field(path, 'clusterBits'));
  const end = Math.ceil(fileLength(path) / clusterSize) * clusterSize;
  patchBytes(path, end, Buffer.alloc(clusterSize, 0x5a));
  setRefcount(path, end, 1);
}

/** Moves a table to the end of the file, and cuts it off there after `kept` bytes. */
function cutOffTable(path: string, offset: number, kept: number, name: (place: number) => void): void {
  const clusterSize = 2 ** Number(field(path, 'clusterBits'));
  const end = Math.ceil(fileLength(path) / clusterSize) * clusterSize;
  patchBytes(path, end, readBytes(path, offset, clusterSize));
  name(end);
  setRefcount(path, end, 1);
  setRefcount(path, offset, 0);
  truncateImage(path, end + kept);
}

const refcounts: Readonly<Record<string, Damage>> = {
  'a leaked cluster': { base: plain, damage: addLeak, kinds: ['leak'], repair: 'mended' },
  'refcounts of 2 of many data clusters': {
    base: plain,
    damage: (path) => {
      for (let guest = 3 * MiB; guest < 4 * MiB; guest += CLUSTER) {
        setRefcount(path, dataOf(path, guest), 2);
        patchL2(path, guest, readL2(path, guest) & ~COPIED);
      }
    },
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount of a data cluster that is too high': {
    base: plain,
    damage: (path) => {
      setRefcount(path, dataOf(path), 5);
      patchL2(path, GUEST, readL2(path, GUEST) & ~COPIED);
    },
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount that is too high, and COPIED set': {
    base: plain,
    damage: (path) => setRefcount(path, dataOf(path), 2),
    kinds: ['leak', 'copied-flag'],
    repair: 'mended',
  },
  'a refcount of 0 of a data cluster': {
    base: plain,
    damage: (path) => setRefcount(path, dataOf(path), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 0 of the L1 table': {
    base: plain,
    damage: (path) => setRefcount(path, Number(field(path, 'l1TableOffset')), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 0 of the header': {
    base: plain,
    damage: (path) => setRefcount(path, 0, 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount of 1 of a cluster that a snapshot shares': {
    base: snapshots,
    damage: (path) => setRefcount(path, dataOf(path, SHARED), 1),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a compressed cluster with a refcount of 0': {
    base: compressed,
    damage: (path) => setRefcount(path, Number(readL2(path, 0) & 0xffff_ffffn), 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount block full of zeros': {
    base: plain,
    damage: (path) => patchBytes(path, refcountBlocks(path)[0]!.offset, Buffer.alloc(CLUSTER)),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount block full of ones': {
    base: refcountsOf(16),
    damage: (path) => patchBytes(path, refcountBlocks(path)[0]!.offset, Buffer.alloc(CLUSTER, 0xff)),
    kinds: ['leak'],
    repair: 'mended',
  },
  'a refcount table entry of 0': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[1]!.entry, 8, 0),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount table full of zeros': {
    base: plain,
    damage: (path) => patchBytes(path, Number(field(path, 'refcountTableOffset')), Buffer.alloc(CLUSTER)),
    kinds: ['refcount-too-low'],
    repair: 'mended',
  },
  'a refcount table entry with reserved bits': {
    base: plain,
    damage: (path) => {
      const { entry, offset } = refcountBlocks(path)[0]!;
      patchNumber(path, entry, 8, offset + 1);
    },
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block that is not aligned': {
    base: plain,
    damage: (path) => {
      const { entry, offset } = refcountBlocks(path)[0]!;
      patchNumber(path, entry, 8, offset + 512);
    },
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block outside the file': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, 0x4000_0000),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block that two entries name': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[1]!.entry, 8, refcountBlocks(path)[0]!.offset),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block on the L1 table': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, field(path, 'l1TableOffset')),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount block on a data cluster': {
    base: plain,
    damage: (path) => patchNumber(path, refcountBlocks(path)[0]!.entry, 8, dataOf(path)),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a data cluster that the refcount table does not reach': {
    base: tinyClusters,
    damage: (path) => {
      const far = 9 * MiB;
      patchBytes(path, far, readBytes(path, dataOf(path), 512));
      patchL2(path, GUEST, COPIED | BigInt(far));
    },
    kinds: ['refcount-too-low', 'leak'],
    repair: 'mended',
  },
  'a refcount table outside the file': {
    base: plain,
    damage: (path) => patchField(path, 'refcountTableOffset', 0x4000_0000),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
  'a refcount table on a data cluster': {
    base: plain,
    damage: (path) => patchField(path, 'refcountTableOffset', dataOf(path)),
    kinds: ['refcount-structure'],
    repair: 'mended',
  },
};

const flags: Readonly<Record<string, Damage>> = {
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

const places: Readonly<Record<string, Damage>> = {
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

const subclusters: Readonly<Record<string, Damage>> = {
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

const others: Readonly<Record<string, Damage>> = {
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

export const DAMAGE: Readonly<Record<string, Damage>> = {
  ...refcounts,
  ...flags,
  ...places,
  ...subclusters,
  ...others,
};
