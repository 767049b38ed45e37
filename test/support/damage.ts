/**
 * Byte surgery on image files, for the tests of bad input. Deliberately independent of src/: a bug in the
 * code under test must not hide itself here. Numbers are big-endian; 64-bit words travel as bigint.
 */

import { closeSync, fstatSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';

// Offset and width in bytes, from docs/interop/qcow2.rst, "Header".
export const HEADER_FIELDS = {
  magic: [0, 4],
  version: [4, 4],
  backingFileOffset: [8, 8],
  backingFileSize: [16, 4],
  clusterBits: [20, 4],
  size: [24, 8],
  cryptMethod: [32, 4],
  l1Size: [36, 4],
  l1TableOffset: [40, 8],
  refcountTableOffset: [48, 8],
  refcountTableClusters: [56, 4],
  nbSnapshots: [60, 4],
  snapshotsOffset: [64, 8],
  incompatibleFeatures: [72, 8],
  compatibleFeatures: [80, 8],
  autoclearFeatures: [88, 8],
  refcountOrder: [96, 4],
  headerLength: [100, 4],
  compressionType: [104, 1],
} as const;

export type HeaderField = keyof typeof HEADER_FIELDS;

export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
} as const;

/** For L1 and L2 entries. */
const OFFSET_MASK = 0x00fffffffffffe00n;
const INCOMPATIBLE_EXTENDED_L2 = 1n << 4n;

export function readBytes(path: string, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const fd = openSync(path, 'r');
  try {
    const count = readSync(fd, bytes, 0, length, offset);
    if (count !== length) throw new Error(`${path}: ${count} of ${length} bytes at ${offset}`);
  } finally {
    closeSync(fd);
  }
  return bytes;
}

export function patchBytes(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}

/** Cuts the file to `length` bytes. */
export function truncateImage(path: string, length: number): void {
  truncateSync(path, length);
}

export function fileLength(path: string): number {
  const fd = openSync(path, 'r');
  try {
    return fstatSync(fd).size;
  } finally {
    closeSync(fd);
  }
}

/** A big-endian number of `width` bytes. */
export function readNumber(path: string, offset: number, width: number): bigint {
  return BigInt(`0x${readBytes(path, offset, width).toString('hex')}`);
}

export function patchNumber(path: string, offset: number, width: number, value: bigint | number): void {
  const digits = BigInt.asUintN(8 * width, BigInt(value)).toString(16);
  patchBytes(path, offset, Buffer.from(digits.padStart(2 * width, '0'), 'hex'));
}

export function readField(path: string, field: HeaderField): bigint {
  const [offset, width] = HEADER_FIELDS[field];
  return readNumber(path, offset, width);
}

export function patchField(path: string, field: HeaderField, value: bigint | number): void {
  const [offset, width] = HEADER_FIELDS[field];
  patchNumber(path, offset, width, value);
}

/** Sets one bit of a 64-bit feature mask. */
export function setFeatureBit(
  path: string,
  field: 'incompatibleFeatures' | 'compatibleFeatures' | 'autoclearFeatures',
  bit: number,
): void {
  patchField(path, field, readField(path, field) | (1n << BigInt(bit)));
}

/** The file offset of L1 entry `index` of the active table. */
export function l1EntryOffset(path: string, index: number): number {
  return Number(readField(path, 'l1TableOffset')) + 8 * index;
}

export function readL1(path: string, index: number): bigint {
  return readNumber(path, l1EntryOffset(path, index), 8);
}

export function patchL1(path: string, index: number, value: bigint): void {
  patchNumber(path, l1EntryOffset(path, index), 8, value);
}

/** The file offset of the L2 entry for a guest offset; an unallocated L2 table is an error. */
export function l2EntryOffset(path: string, guestOffset: number): number {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const entrySize = hasExtendedL2(path) ? 16 : 8;
  const entriesPerTable = clusterSize / entrySize;
  const cluster = Math.floor(guestOffset / clusterSize);
  const table = Number(readL1(path, Math.floor(cluster / entriesPerTable)) & OFFSET_MASK);
  if (table === 0) throw new Error(`${path}: no L2 table for guest offset ${guestOffset}`);
  return table + entrySize * (cluster % entriesPerTable);
}

function hasExtendedL2(path: string): boolean {
  return (
    readField(path, 'version') >= 3n &&
    (readField(path, 'incompatibleFeatures') & INCOMPATIBLE_EXTENDED_L2) !== 0n
  );
}

export function readL2(path: string, guestOffset: number): bigint {
  return readNumber(path, l2EntryOffset(path, guestOffset), 8);
}

export function patchL2(path: string, guestOffset: number, value: bigint): void {
  patchNumber(path, l2EntryOffset(path, guestOffset), 8, value);
}

/** The second word of an extended L2 entry: allocation bits low, zero bits high. */
export function readSubclusterBitmap(path: string, guestOffset: number): bigint {
  return readNumber(path, l2EntryOffset(path, guestOffset) + 8, 8);
}

export function patchSubclusterBitmap(path: string, guestOffset: number, value: bigint): void {
  patchNumber(path, l2EntryOffset(path, guestOffset) + 8, 8, value);
}

/** Where the data of a normal cluster lie in the host file (or data file), from its L2 entry. */
export function hostOffset(path: string, guestOffset: number): number {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  return Number(readL2(path, guestOffset) & OFFSET_MASK) + (guestOffset % clusterSize);
}

/** The file offset of snapshot table entry `index`: its L1 offset is at +0 (8 bytes), its L1 size at +8 (4). */
export function snapshotEntryOffset(path: string, index: number): number {
  let offset = Number(readField(path, 'snapshotsOffset'));
  for (let entry = 0; entry < index; entry++) {
    const idLength = Number(readNumber(path, offset + 12, 2));
    const nameLength = Number(readNumber(path, offset + 14, 2));
    const extraLength = Number(readNumber(path, offset + 36, 4));
    offset = Math.ceil((offset + 40 + extraLength + idLength + nameLength) / 8) * 8;
  }
  return offset;
}

export interface Extension {
  readonly type: number;
  readonly data: Buffer;
}

function headerLength(path: string): number {
  return readField(path, 'version') === 2n ? 72 : Number(readField(path, 'headerLength'));
}

/** The header extensions in their order, without the end marker, each with the file offset of its data. */
export function readExtensions(path: string): (Extension & { readonly offset: number })[] {
  const found: (Extension & { readonly offset: number })[] = [];
  for (let offset = headerLength(path); ; ) {
    const type = Number(readNumber(path, offset, 4));
    if (type === EXTENSION.end) return found;
    const length = Number(readNumber(path, offset + 4, 4));
    found.push({ type, offset: offset + 8, data: readBytes(path, offset + 8, length) });
    offset += 8 + Math.ceil(length / 8) * 8;
  }
}

/** Replaces all header extensions; the backing name moves behind them. They must fit into the first cluster. */
export function writeExtensions(path: string, extensions: readonly Extension[]): void {
  const nameOffset = Number(readField(path, 'backingFileOffset'));
  const name = readBytes(path, nameOffset, Number(readField(path, 'backingFileSize')));
  const start = headerLength(path);
  const parts = [...extensions, { type: EXTENSION.end, data: Buffer.alloc(0) }].map(encodeExtension);
  const encoded = Buffer.concat(parts);
  const room = 2 ** Number(readField(path, 'clusterBits')) - start;
  if (encoded.length + name.length > room) throw new Error(`${path}: extensions overflow the first cluster`);
  const area = Buffer.alloc(room);
  encoded.copy(area);
  name.copy(area, encoded.length);
  patchBytes(path, start, area);
  if (nameOffset !== 0) patchField(path, 'backingFileOffset', start + encoded.length);
}

function encodeExtension({ type, data }: Extension): Buffer {
  const bytes = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
  bytes.writeUInt32BE(type, 0);
  bytes.writeUInt32BE(data.length, 4);
  data.copy(bytes, 8);
  return bytes;
}

/** Appends an extension, e.g. one of an unknown type. */
export function addExtension(path: string, type: number, data: Uint8Array): void {
  writeExtensions(path, [...readExtensions(path), { type, data: Buffer.from(data) }]);
}

/** Removes every extension of this type, e.g. the backing format. */
export function removeExtension(path: string, type: number): void {
  writeExtensions(
    path,
    readExtensions(path).filter((extension) => extension.type !== type),
  );
}

export type FeatureKind = 'incompatible' | 'compatible' | 'autoclear';

/** One entry of the feature name table: type, bit, name padded with NUL to 46 bytes (all 46 used: no NUL). */
export function encodeFeatureName(kind: FeatureKind, bit: number, name: string): Buffer {
  const entry = Buffer.alloc(48);
  entry[0] = { incompatible: 0, compatible: 1, autoclear: 2 }[kind];
  entry[1] = bit;
  entry.write(name, 2, 46, 'utf8');
  return entry;
}

/** Adds a name to the image's feature name table, which is made when missing. */
export function addFeatureName(path: string, kind: FeatureKind, bit: number, name: string): void {
  const extensions = readExtensions(path);
  const table = extensions.find(({ type }) => type === EXTENSION.featureNames)?.data ?? Buffer.alloc(0);
  const rest = extensions.filter(({ type }) => type !== EXTENSION.featureNames);
  const data = Buffer.concat([table, encodeFeatureName(kind, bit, name)]);
  writeExtensions(path, [...rest, { type: EXTENSION.featureNames, data }]);
}
