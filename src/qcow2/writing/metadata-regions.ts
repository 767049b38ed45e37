/**
 * Finds all live metadata of an image that is about to be written. No two structures share a cluster in a sound image;
 * where they do, a write to one would destroy the other, so such an image is not written at all.
 */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { forEachEntry } from '../check/table-reader.js';
import { entryOffset } from '../format/entries.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import { snapshotTableBytes } from '../format/snapshots.js';
import { hex, TWO_32 } from '../format/units.js';
import { hasValidBitmaps, type Image, readValidBitmaps } from '../image.js';
import {
  allocateMetadataMap,
  enlargedMetadataMap,
  MetadataMap,
  type SharedMetadataMap,
} from './metadata-map.js';

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
/** Entries of the L1 tables of snapshots and of bitmap tables that are read: those have 32 million. */
const MAX_ENTRIES = 2 ** 26;

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
  const builder = new MapBuilder(
    image,
    Math.max(l1Capacity, header.l1Size) + blocks.byteLength / ENTRY_BYTES + fixed + headroom,
  );
  builder.add('the active L1 table', header.l1TableOffset, header.l1Size * ENTRY_BYTES);
  builder.add('the refcount table', header.refcountTableOffset, blocks.byteLength);
  addFixed(image, (name, offset, length) => {
    if (length > 0 && offset % clusterSize !== 0)
      throw refusal(storage, name, offset, 'starts inside a cluster');
    builder.add(name, offset, length);
  });
  eachEntry(blocks, (index, high, low) =>
    builder.add(`refcount block ${index}`, high * TWO_32 + low, clusterSize),
  );
  // A table that the disk shares with a snapshot stays when the disk gets one of its own.
  builder.addSnapshots();
  eachEntry(l1, (index, high, low) => builder.add(`L2 table ${index}`, entryOffset(high, low), clusterSize));
  builder.addBitmaps();
  return builder.shared;
}

class MapBuilder {
  shared: SharedMetadataMap;
  readonly #image: Image;
  #map: MetadataMap;
  #expected: number;
  #entries = 0;

  /** @param expected clusters, without those of `addSnapshots` and `addBitmaps` */
  constructor(image: Image, expected: number) {
    this.#image = image;
    this.#expected = expected;
    this.shared = allocateMetadataMap(expected);
    this.#map = new MetadataMap(this.shared, image.header.clusterSize);
  }

  add(name: string, offset: number, length: number, stays = false): void {
    const { storage, header } = this.#image;
    // An L2 table or refcount block that lies where none can is found when it is used.
    if (length === 0 || offset === 0 || offset % header.clusterSize !== 0) return;
    if (!Number.isSafeInteger(offset + length)) return;
    const present = this.#map.add(offset, length, stays);
    if (present === undefined) return;
    throw refusal(storage, name, offset, `overlaps other metadata at ${hex(present)}`);
  }

  /**
   * The L2 tables of snapshots. A snapshot shares most of them with the one before, which is seen at once: 20 snapshots
   * of 16 TiB take 0.1 s, a thousand 1 s.
   */
  addSnapshots(): void {
    const { snapshots } = this.#image;
    const longest = snapshots.reduce((most, { l1Size }) => Math.max(most, l1Size), 0);
    const before = new Float64Array(Math.min(longest, MAX_L1_BYTES / ENTRY_BYTES));
    for (const { id, l1TableOffset, l1Size } of snapshots) {
      this.#forEachEntry(l1TableOffset, l1Size, (index, offset) => {
        if (before[index] === offset) return;
        before[index] = offset;
        this.#addStaying(`L2 table ${index} of snapshot ${id}`, offset);
      });
    }
  }

  /** The tables and the data of bitmaps, which share no cluster with anything. */
  addBitmaps(): void {
    const { header, storage } = this.#image;
    for (const { name, tableOffset, tableSize } of readValidBitmaps(this.#image)) {
      const claim = (what: string, offset: number, length: number): void => {
        const present = this.#map.find(offset, length);
        if (present === undefined) {
          for (let at = offset; at < offset + length; at += header.clusterSize) this.#addStaying(what, at);
          return;
        }
        throw refusal(storage, what, offset, `overlaps other metadata at ${hex(present)}`);
      };
      // One that is not sound is given up: see dirty-bitmaps.ts.
      if (tableOffset % header.clusterSize !== 0 || !Number.isSafeInteger(tableOffset)) continue;
      claim(`the table of bitmap ${name}`, tableOffset, tableSize * ENTRY_BYTES);
      this.#forEachEntry(tableOffset, tableSize, (index, offset) => {
        if (offset % header.clusterSize === 0)
          claim(`part ${index} of bitmap ${name}`, offset, header.clusterSize);
      });
    }
  }

  #addStaying(name: string, offset: number): void {
    if (this.#map.find(offset, 1) === undefined) this.#makeRoom();
    this.add(name, offset, this.#image.header.clusterSize, true);
  }

  #makeRoom(): void {
    this.#expected++;
    const larger = enlargedMetadataMap(this.shared, this.#expected);
    if (larger === this.shared) return;
    this.shared = larger;
    this.#map = new MetadataMap(larger, this.#image.header.clusterSize);
  }

  #forEachEntry(table: number, entries: number, visit: (index: number, offset: number) => void): void {
    const { storage } = this.#image;
    this.#entries += entries;
    if (this.#entries > MAX_ENTRIES) {
      throw refusal(storage, 'a table of a snapshot or bitmap', table, 'has more entries than there can be');
    }
    forEachEntry(storage, table, entries, (index, high, low) => {
      const offset = entryOffset(high, low);
      if (offset !== 0) visit(index, offset);
    });
  }
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
