/** Dirty images with structures that point where they must not: nobody knows what is in use then. */

import {
  EXTENSION,
  fileLength,
  l2EntryOffset,
  patchField,
  patchL1,
  patchL2,
  patchNumber,
  readExtensions,
  readField,
  readL1,
  readL2,
  readNumber,
  snapshotEntryOffset,
} from '../../../support/damage.js';
import {
  compressed,
  type DirtyImage,
  externalData,
  refcountBlocks,
  small,
  withBitmaps,
  withLuks,
  withSnapshots,
} from '../../../support/dirty-images.js';
import { KiB } from '../../../support/images.js';

const COPIED = 1n << 63n;

export interface StructuralDamage {
  readonly kind: DirtyImage;
  readonly damage: (path: string) => void;
  /** The structure that points wrong. */
  readonly where: string;
  readonly what: string;
}

const FAR = 0x7f00_0000_0000n;
const GUEST = 12 * 64 * KiB;
const field = (path: string, name: Parameters<typeof readField>[1]): bigint => readField(path, name);

/** Points the L2 entry of a data cluster somewhere else. */
function dataAt(target: (path: string) => bigint): Pick<StructuralDamage, 'damage' | 'where'> {
  return {
    damage: (path) => patchL2(path, GUEST, COPIED | target(path)),
    where: 'L2 table at 0x',
  };
}

function l2TableAt(target: (path: string) => bigint): Pick<StructuralDamage, 'damage' | 'where'> {
  return { damage: (path) => patchL1(path, 0, COPIED | target(path)), where: 'L1 table at 0x' };
}

function blockAt(target: (path: string) => bigint): Pick<StructuralDamage, 'damage' | 'where'> {
  return {
    damage: (path) => patchNumber(path, refcountBlocks(path).at(-1)!.entry, 8, target(path)),
    where: 'refcount table at 0x',
  };
}

const bitmapDirectory = (path: string): number =>
  Number(
    readExtensions(path)
      .find(({ type }) => type === EXTENSION.bitmaps)!
      .data.readBigUInt64BE(16),
  );
const bitmapTable = (path: string): number => Number(readNumber(path, bitmapDirectory(path), 8));

export const STRUCTURAL_DAMAGE: Readonly<Record<string, StructuralDamage>> = {
  'a data cluster outside the file': { kind: small, ...dataAt(() => FAR), what: 'outside the file' },
  'a data cluster right behind the file': {
    kind: compressed,
    ...dataAt((path) => BigInt(Math.ceil(fileLength(path) / 4096) * 4096)),
    what: 'outside the file',
  },
  'a data cluster that is not aligned': {
    kind: compressed,
    ...dataAt((path) => (readL2(path, GUEST) & ~COPIED) + 512n),
    what: 'starts inside a cluster',
  },
  'a data cluster on the L1 table': {
    kind: small,
    ...dataAt((path) => field(path, 'l1TableOffset')),
    what: 'overlaps the L1 table',
  },
  'a data cluster on the refcount table': {
    kind: small,
    ...dataAt((path) => field(path, 'refcountTableOffset')),
    where: 'header at 0x0',
    what: 'overlaps the data cluster',
  },
  'a data cluster on a refcount block': {
    kind: small,
    ...dataAt((path) => BigInt(refcountBlocks(path)[1]!.offset)),
    where: 'refcount table at 0x',
    what: 'overlaps the data cluster',
  },
  'a data cluster on an L2 table': {
    kind: small,
    ...dataAt((path) => BigInt(l2EntryOffset(path, 0))),
    what: 'overlaps the L2 table',
  },
  'a data cluster on the snapshot table': {
    kind: withSnapshots,
    ...dataAt((path) => field(path, 'snapshotsOffset')),
    what: 'overlaps the snapshot table',
  },
  "a data cluster on a snapshot's L1 table": {
    kind: withSnapshots,
    ...dataAt((path) => readNumber(path, snapshotEntryOffset(path, 1), 8)),
    what: 'overlaps the snapshot L1 table',
  },
  'a data cluster on the LUKS header': {
    kind: withLuks,
    ...dataAt((path) =>
      readExtensions(path)
        .find(({ type }) => type === EXTENSION.encryption)!
        .data.readBigUInt64BE(0),
    ),
    what: 'overlaps the LUKS header',
  },
  'a data cluster on the bitmap directory': {
    kind: withBitmaps,
    ...dataAt((path) => BigInt(bitmapDirectory(path))),
    what: 'overlaps the bitmap directory',
  },
  'a data cluster on a bitmap table': {
    kind: withBitmaps,
    ...dataAt((path) => BigInt(bitmapTable(path))),
    what: 'overlaps the bitmap table',
  },
  'a compressed cluster that begins in the header': {
    kind: compressed,
    damage: (path) => patchL2(path, 0, (1n << 62n) | 300n),
    where: 'L2 table at 0x',
    what: 'overlaps the header',
  },
  'a compressed cluster outside the file': {
    kind: compressed,
    damage: (path) => patchL2(path, 0, (1n << 62n) | FAR),
    where: 'L2 table at 0x',
    what: 'outside the file',
  },
  'a compressed cluster in an image with external data': {
    kind: externalData,
    damage: (path) => patchL2(path, 0, (1n << 62n) | 0x50000n),
    where: 'L2 table at 0x',
    what: 'external data',
  },
  'an L2 table outside the file': { kind: small, ...l2TableAt(() => FAR), what: 'outside the file' },
  'an L2 table that is not aligned': {
    kind: compressed,
    ...l2TableAt((path) => (readL1(path, 0) & ~COPIED) + 512n),
    what: 'starts inside a cluster',
  },
  'an L2 table on the L1 table': {
    kind: small,
    ...l2TableAt((path) => field(path, 'l1TableOffset')),
    what: 'overlaps the L1 table',
  },
  "an L2 table of a snapshot's, outside the file": {
    kind: withSnapshots,
    damage: (path) => patchNumber(path, Number(readNumber(path, snapshotEntryOffset(path, 1), 8)), 8, FAR),
    where: 'L1 table of snapshot 2 at 0x',
    what: 'outside the file',
  },
  'an L1 table outside the file': {
    kind: small,
    damage: (path) => patchField(path, 'l1TableOffset', FAR),
    where: 'header at 0x0',
    what: 'the L1 table at 0x7f0000000000 lies outside the file',
  },
  "a snapshot's L1 table on the active one": {
    kind: withSnapshots,
    damage: (path) => patchNumber(path, snapshotEntryOffset(path, 0), 8, field(path, 'l1TableOffset')),
    where: 'snapshot table at 0x',
    what: 'entry 0: the snapshot L1 table',
  },
  'a snapshot table on a refcount block': {
    kind: small,
    damage: (path) => {
      // Refcounts of 1 make a table entry.
      patchField(path, 'snapshotsOffset', refcountBlocks(path)[1]!.offset);
      patchField(path, 'nbSnapshots', 1);
    },
    where: 'refcount table at 0x',
    what: 'entry 1: the refcount block at',
  },
  'a refcount table on the L1 table': {
    kind: small,
    damage: (path) => patchField(path, 'refcountTableOffset', field(path, 'l1TableOffset')),
    where: 'header at 0x0',
    what: 'overlaps the L1 table',
  },
  'a refcount table outside the file': {
    kind: small,
    damage: (path) => patchField(path, 'refcountTableOffset', FAR),
    where: 'header at 0x0',
    what: 'the refcount table at 0x7f0000000000 lies outside the file',
  },
  'a refcount block outside the file': { kind: small, ...blockAt(() => FAR), what: 'outside the file' },
  'a refcount block that is not aligned': {
    kind: compressed,
    ...blockAt((path) => BigInt(refcountBlocks(path)[0]!.offset) + 512n),
    what: 'starts inside a cluster',
  },
  'a refcount block with reserved bits': {
    kind: small,
    ...blockAt((path) => BigInt(refcountBlocks(path).at(-1)!.offset) + 1n),
    what: 'reserved bits are set',
  },
  'a refcount block that two entries name': {
    kind: small,
    ...blockAt((path) => BigInt(refcountBlocks(path)[0]!.offset)),
    what: 'overlaps the refcount block',
  },
  'a LUKS header on the L1 table': {
    kind: withLuks,
    damage: (path) => {
      const { offset } = readExtensions(path).find(({ type }) => type === EXTENSION.encryption)!;
      patchNumber(path, offset, 8, field(path, 'l1TableOffset'));
    },
    where: 'header at 0x0',
    what: 'the LUKS header',
  },
  'bitmap data outside the file': {
    kind: withBitmaps,
    damage: (path) => patchNumber(path, bitmapTable(path), 8, FAR),
    where: 'table of bitmap ',
    what: 'the bitmap data at 0x7f0000000000 lies outside the file',
  },
  'bitmap data on the L1 table': {
    kind: withBitmaps,
    damage: (path) => patchNumber(path, bitmapTable(path), 8, field(path, 'l1TableOffset')),
    where: 'table of bitmap ',
    what: 'overlaps the L1 table',
  },
  'a bitmap table that is too short': {
    kind: withBitmaps,
    damage: (path) => {
      const entry = bitmapDirectory(path);
      patchNumber(path, entry + 8, 4, 0);
      // One that is in use may be as the disk was before it was resized.
      patchNumber(path, entry + 12, 4, readNumber(path, entry + 12, 4) & ~1n);
    },
    where: 'header at 0x0',
    what: 'it is not known what else is in use',
  },
  'a bitmap fewer than there are': {
    kind: withBitmaps,
    damage: (path) =>
      patchNumber(path, readExtensions(path).find(({ type }) => type === EXTENSION.bitmaps)!.offset, 4, 1),
    where: 'bitmap directory at 0x',
    what: '1 bitmaps take',
  },
  'a LUKS header that is said to be too short': {
    kind: withLuks,
    damage: (path) =>
      patchNumber(
        path,
        readExtensions(path).find(({ type }) => type === EXTENSION.encryption)!.offset + 8,
        8,
        4096,
      ),
    where: 'LUKS header at 0x',
    what: 'outside the LUKS header',
  },
  'a bitmap table outside the file': {
    kind: withBitmaps,
    damage: (path) => patchNumber(path, bitmapDirectory(path), 8, FAR),
    where: 'bitmap directory at 0x',
    what: 'entry 0: the bitmap table',
  },
};
