/** The header, extensions and tables of one image file, read and checked; nothing that the image names is opened. */
import { Qcow2fsError } from '../errors.js';
import { notice } from '../notice.js';
import { shortName } from '../printable.js';
import type { Storage } from '../storage.js';
import { allocateEntryTable, type SharedEntryTable } from './entry-table.js';
import { type Bitmap, readBitmaps } from './format/bitmaps.js';
import { LOST_ENTRY } from './format/entries.js';
import { type Extensions, parseExtensions } from './format/extensions.js';
import { refuseUnknownFeatures } from './format/features.js';
import { Autoclear, bytesPerL1Entry, type Header, parseHeader } from './format/header.js';
import { MAX_LUKS_HEADER_BYTES } from './format/limits.js';
import { MAGIC_BYTES } from './format/magic.js';
import { checkSnapshotTable, findSnapshot, readSnapshots, type Snapshot } from './format/snapshots.js';
import { hex, swapWords } from './format/units.js';
import { isNeverWritten } from './preallocation.js';

/** Snapshots that a message names. */
const MAX_LISTED = 10;

export interface Image {
  readonly storage: Storage;
  readonly header: Header;
  readonly extensions: Extensions;
  readonly snapshots: readonly Snapshot[];
}

/** The table that maps a disk: the active one, or a snapshot's. */
export interface DiskTable {
  readonly l1TableOffset: number;
  /** Bytes of the guest disk. */
  readonly size: number;
}

/**
 * @param onBadSnapshots is told when the snapshot table makes no sense, which then counts as empty; without it that is
 * an error as any other
 * @throws Qcow2fsError `format`, `unsupported`, or `host-io`
 */
export function readImage(
  storage: Storage,
  onBadSnapshots?: (error: Qcow2fsError, header: Header) => void,
): Image {
  const image = readWithoutSnapshots(storage);
  const { header } = image;
  try {
    const read = (offset: number, length: number): Buffer => readUpTo(storage, offset, length);
    return { ...image, snapshots: readSnapshots(header, read, storage.path) };
  } catch (error) {
    const isBad = error instanceof Qcow2fsError && error.kind === 'format';
    if (!isBad || onBadSnapshots === undefined) throw error;
    onBadSnapshots(error, header);
    return image;
  }
}

/**
 * As `readImage`, for a backing file: nothing asks for its snapshots, and those of a long chain would take gigabytes.
 * @throws Qcow2fsError `format`, `unsupported`, or `host-io`
 */
export function readWithoutSnapshots(storage: Storage): Image {
  const { path } = storage;
  const header = parseHeader(readUpTo(storage, 0, MAGIC_BYTES), path);
  const extensions = parseExtensions(header, readUpTo(storage, 0, header.clusterSize), path);
  refuseUnknownFeatures(header, extensions, path);
  checkEncryptionPointer(header, extensions, path);
  return { storage, header, extensions, snapshots: [] };
}

/** False where a program that knows no bitmaps wrote the image, too. */
export function hasValidBitmaps({ header, extensions }: Image): boolean {
  return extensions.bitmaps !== undefined && (header.autoclearFeatures & Autoclear.bitmaps) !== 0n;
}

/** @throws Qcow2fsError `format` */
export function readValidBitmaps(image: Image): Bitmap[] {
  if (!hasValidBitmaps(image)) return [];
  const { extensions, storage } = image;
  const read = (offset: number, length: number): Buffer => readUpTo(storage, offset, length);
  return readBitmaps(extensions.bitmaps!, read, storage.path);
}

/** `length` bytes at `offset`, or fewer at the end of the file. */
export function readUpTo(storage: Storage, offset: number, length: number): Buffer {
  const available = Math.max(0, Math.min(length, storage.size() - offset));
  const bytes = Buffer.alloc(available);
  return bytes.subarray(0, storage.read(bytes, 0, available, offset));
}

/** @throws Qcow2fsError `snapshot` when there is none of that ID or name */
export function diskTable(image: Image, wanted: string | undefined): DiskTable {
  const { header, snapshots, storage } = image;
  if (wanted === undefined) return header;
  const snapshot = findSnapshot(snapshots, wanted);
  if (snapshot === undefined) {
    const known = snapshots
      .slice(0, MAX_LISTED)
      .map(({ id, name }) => (name === '' ? shortName(id) : `${shortName(id)} (${shortName(name)})`))
      .join(', ');
    const more = snapshots.length > MAX_LISTED ? ` and ${snapshots.length - MAX_LISTED} more` : '';
    const hint = known === '' ? 'the image has none' : `it has ${known}${more}`;
    throw new Qcow2fsError(
      'snapshot',
      `${storage.path}: no snapshot has the ID or name "${wanted}"; ${hint}`,
    );
  }
  checkSnapshotTable(snapshot, header, l1EntriesFor(header, snapshot.diskSize), storage.path);
  return { l1TableOffset: snapshot.l1TableOffset, size: snapshot.diskSize };
}

/**
 * The part of the L1 table that maps the disk, as the threads share it.
 * @param capacity entries that the disk may grow to, if more
 * @param forWriting refuses a table that the end of the file cuts off; else what it has lost cannot be read, unless
 * nothing was ever written there
 * @throws Qcow2fsError `format` when it lies outside the file
 */
export function readL1(
  image: Image,
  table: DiskTable,
  capacity: number,
  forWriting: boolean,
): SharedEntryTable {
  const { header, storage } = image;
  const size = l1EntriesFor(header, table.size);
  const length = size * 8;
  const l1 = allocateEntryTable(Math.max(size, capacity));
  const bytes = Buffer.from(l1.entries, 0, length);
  const whole = Math.floor(storage.read(bytes, 0, length, table.l1TableOffset) / 8);
  if (whole < size) {
    const what = `${storage.path}: the L1 table at ${hex(table.l1TableOffset)} lies outside the file`;
    if (forWriting) {
      throw new Qcow2fsError(
        'format',
        `${what}; the image cannot be written, to read what is left, mount it with -r`,
      );
    }
    bytes.fill(0, whole * 8);
    if (isNeverWritten(image))
      notice(`${what}; nothing was ever written to the disk, so the table counts as empty`);
    else {
      const lost = hex(whole * bytesPerL1Entry(header));
      notice(`${what} from entry ${whole} on: the disk cannot be read from ${lost} on`);
      bytes.fill(LOST_ENTRY, whole * 8);
    }
  }
  swapWords(bytes);
  return l1;
}

/** Entries of an L1 table that map `size` bytes of guest disk. */
export function l1EntriesFor(header: Header, size: number): number {
  return Math.ceil(size / bytesPerL1Entry(header));
}

function checkEncryptionPointer(header: Header, extensions: Extensions, path: string): void {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  const pointer = extensions.encryption;
  if (header.cryptMethod !== 'luks') {
    if (pointer) throw bad('a LUKS header in an image whose encryption method is not LUKS');
    return;
  }
  if (!pointer)
    throw bad('the encryption method is LUKS, but the extension that tells where its header is lacks');
  if (pointer.offset % header.clusterSize !== 0) {
    throw bad(`the LUKS header starts at ${hex(pointer.offset)}, which is no multiple of the cluster size`);
  }
  if (pointer.length > MAX_LUKS_HEADER_BYTES) {
    throw bad(`the LUKS header takes ${pointer.length} bytes; ${MAX_LUKS_HEADER_BYTES} are allowed`);
  }
}
