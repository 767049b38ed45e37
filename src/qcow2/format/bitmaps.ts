/** The bitmap directory (specification: "Bitmaps"): what dirty bitmaps the image carries. */
import { Qcow2fsError } from '../../errors.js';
import { decodeName } from '../../names.js';
import { struct } from '../../struct.js';
import type { Extensions } from './extensions.js';
import { MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAPS } from './limits.js';

const directoryEntry = struct('bitmap directory entry', 'be', 24, {
  tableOffset: [0, 'mask64'],
  tableSize: [8, 'u32'],
  flags: [12, 'u32'],
  type: [16, 'u8'],
  granularityBits: [17, 'u8'],
  nameSize: [18, 'u16'],
  extraDataSize: [20, 'u32'],
});
export const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;

export interface Bitmap {
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  /** Not saved correctly: its content cannot be trusted. */
  readonly inUse: boolean;
  /** Must reflect all changes of the disk. */
  readonly auto: boolean;
  /** All of them. */
  readonly flags: number;
  /** Host offset of the directory entry. */
  readonly entryOffset: number;
  /** Host offset of its table; beyond 2^53 not exact. */
  readonly tableOffset: number;
  /** Entries of 8 bytes. */
  readonly tableSize: number;
  /** 1: a dirty bitmap. */
  readonly type: number;
  readonly extraDataSize: number;
  readonly nameBytes: number;
  /** Bytes from the start of the directory to the end of the entry, with its padding. */
  readonly end: number;
}

/** Fields of a directory entry that are written at once: each lies within a sector. */
export type BitmapFields =
  | { readonly tableOffset: bigint }
  | { readonly tableSize: number; readonly flags: number };

/** The bytes of the given fields, and where they belong in the entry. */
export function encodeBitmapFields(fields: BitmapFields): {
  readonly offset: number;
  readonly bytes: Buffer;
} {
  const entry = Buffer.alloc(directoryEntry.size);
  directoryEntry.write(entry, 0, fields);
  const { tableOffset, tableSize } = directoryEntry.offsets;
  const offset = 'tableOffset' in fields ? tableOffset : tableSize;
  return { offset, bytes: entry.subarray(offset, offset + 8) };
}

/**
 * @param read gives `length` bytes of the image at `offset`, or fewer at its end
 * @throws Qcow2fsError `format`
 */
export function readBitmaps(
  extension: NonNullable<Extensions['bitmaps']>,
  read: (offset: number, length: number) => Buffer,
  path: string,
): Bitmap[] {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  if (extension.count > MAX_BITMAPS || extension.directorySize > MAX_BITMAP_DIRECTORY_BYTES) {
    throw bad(
      `the bitmap directory is too large: ${extension.count} bitmaps, ${extension.directorySize} bytes`,
    );
  }
  const directory = read(extension.directoryOffset, extension.directorySize);
  const bitmaps: Bitmap[] = [];
  let at = 0;
  for (let index = 0; index < extension.count; index++) {
    if (at + directoryEntry.size > directory.length)
      throw bad(`bitmap directory entry ${index} is cut short`);
    const entry = directoryEntry.read(directory, at);
    const name = at + directoryEntry.size + entry.extraDataSize;
    if (name + entry.nameSize > directory.length) throw bad(`bitmap directory entry ${index} is cut short`);
    bitmaps.push({
      name: decodeName(directory.subarray(name, name + entry.nameSize)),
      granularity: 2 ** entry.granularityBits,
      inUse: (entry.flags & FLAG_IN_USE) !== 0,
      auto: (entry.flags & FLAG_AUTO) !== 0,
      flags: entry.flags,
      entryOffset: extension.directoryOffset + at,
      tableOffset: Number(entry.tableOffset),
      tableSize: entry.tableSize,
      type: entry.type,
      extraDataSize: entry.extraDataSize,
      nameBytes: entry.nameSize,
      end: Math.ceil((name + entry.nameSize) / 8) * 8,
    });
    at = bitmaps.at(-1)!.end;
  }
  return bitmaps;
}
