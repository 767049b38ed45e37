/** From an image that was read to what its disks need: plain data that all threads share. */
import { Qcow2fsError } from '../errors.js';
import { RwLock } from '../host/rw-lock.js';
import { shellWord } from '../printable.js';
import { allocateCompression, type ChainClusters } from './compressed.js';
import type { EncryptionState } from './encryption.js';
import { allocateEntryTable } from './entry-table.js';
import { Autoclear, hasFeature, Incompatible } from './format/header.js';
import { MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES } from './format/limits.js';
import { swapWords } from './format/units.js';
import { geometryOf } from './geometry.js';
import { type DiskTable, type Image, l1EntriesFor, readL1, readValidBitmaps } from './image.js';
import { allocateImageState } from './image-state.js';
import { allocateMetadata } from './metadata.js';
import type { Qcow2Parameters } from './qcow2-disk.js';
import { allocateBitmaps } from './writing/dirty-bitmaps.js';
import type { WriteParameters } from './writing/image-writer.js';
import { mapMetadata } from './writing/metadata-regions.js';
import { allocatePendingFrees } from './writing/pending-frees.js';
import { allocateRefcounts } from './writing/refcounts.js';

const ENTRY_BYTES = 8;

/** What one image gets of the memory that its chain may take. */
export interface ChainShare {
  /** Bytes that the cache of L2 slices may take. */
  readonly l2CacheBytes: number;
  readonly clusters: ChainClusters;
  /** Place in the chain. */
  readonly depth: number;
}

export interface ParameterOptions {
  readonly encryption?: EncryptionState | undefined;
  readonly share: ChainShare;
  /** `growing`: its size may change, too. */
  readonly access: 'reading' | 'writing' | 'growing';
}

/** @throws Qcow2fsError `format` when a table lies outside the file */
export function qcow2Parameters(
  image: Image,
  table: DiskTable,
  { encryption, share, access }: ParameterOptions,
): Qcow2Parameters {
  const { header, storage } = image;
  const geometry = geometryOf(header);
  const capacity = access === 'growing' ? MAX_L1_BYTES / ENTRY_BYTES : 0;
  const l1 = readL1(image, table, capacity, access !== 'reading');
  const state = allocateImageState({
    diskSize: table.size,
    l1Size: l1EntriesFor(header, table.size),
    l1FileSize: header.l1Size,
    l1Offset: table.l1TableOffset,
    tableOffset: header.refcountTableOffset,
    tableSize: (header.refcountTableClusters * header.clusterSize) / ENTRY_BYTES,
    firstFree: 1,
    tableChanges: 0,
    headerSize: table.size,
    toldSize: table.size,
    clearedTo: table.size,
    fileEnd: Math.ceil(storage.size() / header.clusterSize) * header.clusterSize,
  });
  return {
    geometry,
    compression: allocateCompression(header, share.clusters, share.depth),
    encryption,
    metadata: allocateMetadata(geometry, state, l1, share.l2CacheBytes),
    writing:
      access === 'reading'
        ? undefined
        : writeParameters(image, access === 'growing', l1.entries.byteLength / ENTRY_BYTES),
  };
}

/** The locks that a thread may hold when it dies: `RwLock`s. */
export function locksOf({ metadata, compression, writing }: Qcow2Parameters): readonly SharedArrayBuffer[] {
  const locks = [metadata.lock, compression.inflated.lock];
  return writing === undefined ? locks : [...locks, writing.flushLock];
}

function writeParameters(image: Image, growing: boolean, l1Capacity: number): WriteParameters {
  const { header } = image;
  const fixed = fixedSize(image);
  if (growing && fixed !== undefined) {
    throw new Qcow2fsError('unsupported', `${image.storage.path}: ${fixed}, or leave out --resizable`);
  }
  return {
    header: {
      version: header.version,
      incompatibleFeatures: header.incompatibleFeatures,
      refcountBits: header.refcountBits,
    },
    refcounts: allocateRefcounts(header.clusterSize, readRefcountTable(image)),
    frees: allocatePendingFrees(),
    map: mapMetadata(image, l1Capacity),
    flushLock: RwLock.allocate(),
    bitmaps: allocateBitmaps(readValidBitmaps(image), header.size, header.clusterSize, growing),
    rawExternal: isRawExternal(image),
    fixedSize: growing
      ? undefined
      : (fixed ?? 'the disk keeps its size; to let it grow, mount it with --resizable'),
  };
}

function readRefcountTable({ header, storage }: Image): ReturnType<typeof allocateEntryTable> {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header;
  const table = allocateEntryTable(Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSize) / ENTRY_BYTES);
  const bytes = Buffer.from(table.entries, 0, refcountTableClusters * clusterSize);
  // What the file lacks is zeros: no block.
  storage.read(bytes, 0, bytes.length, refcountTableOffset);
  swapWords(bytes);
  return table;
}

function isRawExternal({ header }: Image): boolean {
  const raw = (header.autoclearFeatures & Autoclear.rawExternalData) !== 0n;
  return raw && hasFeature(header, Incompatible.externalDataFile) && header.cryptMethod === 'none';
}

/** Why the disk keeps its size; undefined where it may grow. */
function fixedSize({ header, snapshots, storage }: Image): string | undefined {
  if (snapshots.length === 0) return undefined;
  const file = shellWord(storage.path);
  if (header.version < 3) {
    const advice = `make it version 3: qemu-img amend -f qcow2 -o compat=1.1 ${file}`;
    return `version 2 images with snapshots cannot grow; ${advice}`;
  }
  // It would take the new size for that of its own disk.
  if (snapshots.every(({ tellsDiskSize }) => tellsDiskSize)) return undefined;
  const advice = `repair it: qcow2fs check --repair all ${file}`;
  return `images with a snapshot that has no disk size of its own cannot grow; ${advice}`;
}
