/**
 * Finds all live metadata of an image that is about to be written. No two structures share a cluster in a sound image;
 * where they do, a write to one would destroy the other, so such an image is not written at all.
 */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { entryOffset } from '../format/entries.js';
import { snapshotTableBytes } from '../format/snapshots.js';
import { hex, TWO_32 } from '../format/units.js';
import { hasValidBitmaps, type Image } from '../image.js';
import { allocateMetadataMap, MetadataMap, type SharedMetadataMap } from './metadata-map.js';

const ENTRY_BYTES = 8;
/** Tables that may come: small clusters need many. */
const HEADROOM = 2 ** 16;
const HEADROOM_SMALL_CLUSTERS = 2 ** 20;
const SMALL_CLUSTER = 4096;
/**
 * Clusters that snapshots, bitmaps and the LUKS header may claim: each takes a microsecond, and the header may say
 * anything. A thousand snapshots of 16 TiB claim four thousand of 64 KiB.
 */
const MAX_FIXED_CLUSTERS = 2 ** 21;

/**
 * @param l1Capacity entries that the L1 table may grow to
 * @throws Qcow2fsError `corrupt` when two structures overlap
 */
export function mapMetadata(image: Image, l1Capacity: number): SharedMetadataMap {
  const { header, storage } = image;
  const { clusterSize } = header;
  const l1 = readTable(storage, header.l1TableOffset, header.l1Size);
  const blocks = readTable(
    storage,
    header.refcountTableOffset,
    (header.refcountTableClusters * clusterSize) / ENTRY_BYTES,
  );
  let fixed = 0;
  addFixed(image, (name, offset, length) => {
    fixed += Math.ceil(length / clusterSize);
    if (fixed <= MAX_FIXED_CLUSTERS) return;
    throw refusal(storage, name, offset, `takes ${length} bytes, more than there can be`);
  });
  const headroom = clusterSize <= SMALL_CLUSTER ? HEADROOM_SMALL_CLUSTERS : HEADROOM;
  const shared = allocateMetadataMap(
    Math.max(l1Capacity, header.l1Size) + blocks.byteLength / ENTRY_BYTES + fixed + headroom,
  );
  const map = new MetadataMap(shared, clusterSize);
  const add = (name: string, offset: number, length: number): void => {
    // An L2 table or refcount block that lies where none can is found when it is used.
    if (length === 0 || offset % clusterSize !== 0 || !Number.isSafeInteger(offset + length)) return;
    const present = offset === 0 ? 0 : map.add(offset, length);
    if (present === undefined) return;
    throw refusal(storage, name, offset, `overlaps other metadata at ${hex(present)}`);
  };
  add('the active L1 table', header.l1TableOffset, header.l1Size * ENTRY_BYTES);
  add('the refcount table', header.refcountTableOffset, blocks.byteLength);
  addFixed(image, (name, offset, length) => {
    if (length > 0 && offset % clusterSize !== 0)
      throw refusal(storage, name, offset, 'starts inside a cluster');
    add(name, offset, length);
  });
  eachEntry(blocks, (index, high, low) => add(`refcount block ${index}`, high * TWO_32 + low, clusterSize));
  eachEntry(l1, (index, high, low) => {
    const offset = entryOffset(high, low);
    if (offset !== 0) add(`L2 table ${index}`, offset, clusterSize);
  });
  return shared;
}

function refusal({ path }: Storage, name: string, offset: number, what: string): Qcow2fsError {
  const advice = 'see what is wrong: qcow2fs check, or mount it read-only: -r';
  return new Qcow2fsError('corrupt', `${path}: ${name} at ${hex(offset)} ${what}; ${advice}`);
}

type Add = (name: string, offset: number, length: number) => void;

/** What stays where it is while the image is open. Bitmaps that are not valid may be anywhere. */
function addFixed(image: Image, add: Add): void {
  const { header, snapshots, extensions } = image;
  for (const { id, l1TableOffset, l1Size } of snapshots) {
    add(`the L1 table of snapshot ${id}`, l1TableOffset, l1Size * ENTRY_BYTES);
  }
  add('the snapshot table', header.snapshotsOffset, snapshotTableBytes(snapshots));
  const { encryption, bitmaps } = extensions;
  if (encryption) add('the LUKS header', encryption.offset, encryption.length);
  if (bitmaps && hasValidBitmaps(image))
    add('the bitmap directory', bitmaps.directoryOffset, bitmaps.directorySize);
}

/** Pairs of big-endian words: what the file lacks is zeros. */
function readTable(storage: Storage, offset: number, entries: number): DataView {
  const bytes = Buffer.alloc(entries * ENTRY_BYTES);
  storage.read(bytes, 0, bytes.length, offset);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function eachEntry(table: DataView, visit: (index: number, high: number, low: number) => void): void {
  for (let at = 0; at < table.byteLength; at += ENTRY_BYTES) {
    const high = table.getUint32(at);
    const low = table.getUint32(at + 4);
    if (high !== 0 || low !== 0) visit(at / ENTRY_BYTES, high, low);
  }
}
