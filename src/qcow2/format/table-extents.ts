/**
 * Where the tables that the snapshot table and the bitmap directory consist of or point to lie, for those who count
 * clusters and need nothing else of them (specification: "Snapshots", "Bitmaps").
 */
import { Qcow2fsError } from '../../errors.js';
import type { Extensions } from './extensions.js';
import type { Header } from './header.js';
import { MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAPS, MAX_SNAPSHOT_TABLE_BYTES } from './limits.js';
import { TWO_32 } from './units.js';

type Read = (offset: number, length: number) => Buffer;

// Snapshot table entry: sizes of the variable parts that follow the fixed one.
const SNAPSHOT_FIXED_BYTES = 40;
const SNAPSHOT_ID_SIZE = 12;
const SNAPSHOT_NAME_SIZE = 14;
const SNAPSHOT_EXTRA_DATA_SIZE = 36;

// Bitmap directory entry.
const BITMAP_FIXED_BYTES = 24;
const BITMAP_TABLE_OFFSET = 0;
const BITMAP_TABLE_SIZE = 8;
const BITMAP_NAME_SIZE = 18;
const BITMAP_EXTRA_DATA_SIZE = 20;

/** Entries of both kinds are padded. */
const PADDING = 8;

export interface TableExtent {
  /** Bytes; beyond 2^53 not exact. */
  readonly offset: number;
  /** Entries of 8 bytes. */
  readonly entries: number;
}

/**
 * Bytes of the snapshot table.
 * @param read gives `length` bytes of the image at `offset`, or fewer at its end
 * @throws Qcow2fsError `format`
 */
export function snapshotTableBytes(header: Header, read: Read, path: string): number {
  let bytes = 0;
  for (let index = 0; index < header.snapshotCount; index++) {
    const entry = read(header.snapshotsOffset + bytes, SNAPSHOT_FIXED_BYTES);
    if (entry.length < SNAPSHOT_FIXED_BYTES || bytes > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new Qcow2fsError('format', `${path}: snapshot table entry ${index} lies outside its room`);
    }
    const variable =
      entry.readUInt32BE(SNAPSHOT_EXTRA_DATA_SIZE) +
      entry.readUInt16BE(SNAPSHOT_ID_SIZE) +
      entry.readUInt16BE(SNAPSHOT_NAME_SIZE);
    bytes += Math.ceil((SNAPSHOT_FIXED_BYTES + variable) / PADDING) * PADDING;
  }
  return bytes;
}

/**
 * The tables of all bitmaps, in the order of the directory.
 * @param read gives `length` bytes of the image at `offset`, or fewer at its end
 * @throws Qcow2fsError `format`
 */
export function bitmapTables(
  extension: NonNullable<Extensions['bitmaps']>,
  read: Read,
  path: string,
): TableExtent[] {
  const { count, directorySize, directoryOffset } = extension;
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  if (count > MAX_BITMAPS || directorySize > MAX_BITMAP_DIRECTORY_BYTES) {
    throw bad(`the bitmap directory is too large: ${count} bitmaps, ${directorySize} bytes`);
  }
  const directory = read(directoryOffset, directorySize);
  const tables: TableExtent[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + BITMAP_FIXED_BYTES > directory.length) throw bad(`bitmap directory entry ${index} is cut short`);
    tables.push({
      offset:
        directory.readUInt32BE(at + BITMAP_TABLE_OFFSET) * TWO_32 +
        directory.readUInt32BE(at + BITMAP_TABLE_OFFSET + 4),
      entries: directory.readUInt32BE(at + BITMAP_TABLE_SIZE),
    });
    const variable =
      directory.readUInt32BE(at + BITMAP_EXTRA_DATA_SIZE) + directory.readUInt16BE(at + BITMAP_NAME_SIZE);
    at += Math.ceil((BITMAP_FIXED_BYTES + variable) / PADDING) * PADDING;
  }
  return tables;
}
