/** Grows the guest disk. Needs the exclusive lock. */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import type { Geometry } from '../geometry.js';
import type { MetadataCache } from '../metadata.js';
import type { Allocator } from './allocator.js';
import { writeDiskSize, writeL1Location } from './header-fields.js';
import type { MetadataMap } from './metadata-map.js';

const ENTRY_BYTES = 8;

export interface ResizeParts {
  readonly image: Storage;
  /** A raw external data file, which is as long as the disk. */
  readonly dataFile: Storage | undefined;
  readonly geometry: Geometry;
  readonly metadata: MetadataCache;
  readonly allocator: Allocator;
  readonly map: MetadataMap;
  /** Bytes of the backing disk; 0 for none. */
  readonly backingSize: number;
  readonly commit: () => void;
  /** Of the image. */
  readonly sync: () => void;
  /** Of the data file, too. */
  readonly syncAll: () => void;
  /** Makes a range read as zeros. */
  readonly erase: (offset: number, length: number) => void;
}

/**
 * The new part reads as zeros, whatever the backing file has there and whatever the last cluster held beyond the old
 * end. The header tells the new size only when all of that is on disk.
 *
 * @param size bytes, a multiple of 512, larger than the disk is
 * @throws Qcow2fsError `too-large` when the L1 table cannot map that much
 */
export function growDisk(parts: ResizeParts, size: number): void {
  const { image, dataFile, geometry, metadata, backingSize } = parts;
  const { state } = metadata;
  const oldSize = state.diskSize;
  const entries = Math.ceil(size / geometry.tableCoverage);
  if (entries > metadata.l1Table.capacity || entries * ENTRY_BYTES > MAX_L1_BYTES) {
    throw new Qcow2fsError('too-large', `${image.path}: clusters of this size cannot map ${size} bytes`);
  }
  if (entries > state.l1FileSize) growL1Table(parts, entries);
  else refuseLeftovers(parts, entries);
  state.l1Size = Math.max(state.l1Size, entries);

  const clusterEnd = Math.ceil(oldSize / geometry.clusterSize) * geometry.clusterSize;
  const dirtyEnd = Math.min(size, Math.max(clusterEnd, backingSize));
  state.diskSize = size;
  try {
    if (dataFile !== undefined) growDataFile(dataFile, oldSize, size);
    if (dirtyEnd > oldSize) parts.erase(oldSize, dirtyEnd - oldSize);
    parts.commit();
    // A commit that has nothing to write syncs nothing, and the data file may have changed all the same.
    if (dataFile !== undefined) parts.syncAll();
    writeDiskSize(image, size);
  } catch (error) {
    state.diskSize = oldSize;
    throw error;
  }
  parts.sync();
}

/** What the file has beyond the old end must not become part of the disk. */
function growDataFile(file: Storage, oldSize: number, size: number): void {
  const length = file.size();
  if (length > oldSize) file.zero(oldSize, Math.min(length, size) - oldSize);
  if (length < size && file.extensible) file.truncate(size);
}

/** A larger L1 table in new clusters; one write of the header puts it in place. */
function growL1Table(
  { image, geometry, metadata, allocator, map, commit, sync }: ResizeParts,
  entries: number,
): void {
  const { state, l1Table } = metadata;
  commit();
  const old = { offset: state.l1Offset, entries: state.l1FileSize };
  const run = allocator.allocateExactly(Math.ceil((entries * ENTRY_BYTES) / geometry.clusterSize));
  try {
    const table = Buffer.alloc(run.count * geometry.clusterSize);
    image.read(table, 0, old.entries * ENTRY_BYTES, old.offset);
    if (table.subarray(state.l1Size * ENTRY_BYTES, old.entries * ENTRY_BYTES).some((byte) => byte !== 0)) {
      throw leftovers(image);
    }
    l1Table.encode(0, state.l1Size, table);
    image.write(table, 0, table.length, run.offset);
    // The new clusters are counted on disk, and their content is there, before the header names them.
    commit();
    writeL1Location(image, run.offset, entries);
  } catch (error) {
    allocator.undo(run);
    throw error;
  }
  state.l1Offset = run.offset;
  state.l1FileSize = entries;
  map.add(run.offset, run.count * geometry.clusterSize);
  // Freed by a commit, after the sync that makes the header stable.
  if (old.entries > 0) allocator.releaseTable(old.offset, old.entries * ENTRY_BYTES);
  sync();
}

/** Entries behind the disk may map the state of a virtual machine, which must not become part of the disk. */
function refuseLeftovers({ image, metadata }: ResizeParts, entries: number): void {
  const { state } = metadata;
  const count = entries - state.l1Size;
  if (count <= 0) return;
  const bytes = Buffer.alloc(count * ENTRY_BYTES);
  image.read(bytes, 0, bytes.length, state.l1Offset + state.l1Size * ENTRY_BYTES);
  if (bytes.some((byte) => byte !== 0)) throw leftovers(image);
}

function leftovers(image: Storage): Qcow2fsError {
  const what = 'the state of a virtual machine lies behind the end of the disk';
  return new Qcow2fsError('fixed-size', `${image.path}: ${what}; the disk cannot grow over it`);
}
