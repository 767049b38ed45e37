/** Grows the guest disk. Needs the exclusive lock. */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import type { Geometry } from '../geometry.js';
import type { MetadataCache } from '../metadata.js';
import type { Allocator } from './allocator.js';
import { writeL1Location } from './header-fields.js';
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
  /** Makes a range read as zeros. */
  readonly erase: (offset: number, length: number) => void;
}

/**
 * The new part reads as zeros, whatever the backing file has there and whatever the last cluster held beyond the old
 * end: that is cleared in the file before the header can tell the new size, which is up to the next commit. So what is
 * appended in small pieces is not synced piece by piece.
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

  const clusterEnd = Math.ceil(state.clearedTo / geometry.clusterSize) * geometry.clusterSize;
  const cleared = Math.max(clusterEnd, Math.min(size, backingSize));
  try {
    if (dataFile !== undefined) growDataFile(dataFile, oldSize, size);
    if (cleared > state.clearedTo) {
      // Only a part of the disk can be erased.
      state.diskSize = Math.max(size, cleared);
      parts.erase(state.clearedTo, cleared - state.clearedTo);
      parts.commit();
      state.clearedTo = cleared;
    }
  } catch (error) {
    state.diskSize = oldSize;
    throw error;
  }
  showSize(parts, size);
}

/**
 * Takes back a growth that no commit has told yet, because what it was for failed. Whatever it was filled with goes.
 * @param from what the disk grew to; if it has another size by now, somebody else relies on it
 */
export function undoGrowth(parts: Pick<ResizeParts, 'metadata' | 'erase'>, from: number, to: number): void {
  const { state } = parts.metadata;
  if (state.diskSize !== from || to < state.headerSize) return;
  parts.erase(to, from - to);
  if (to >= state.headerSize) showSize(parts, to);
}

function showSize({ metadata: { state } }: Pick<ResizeParts, 'metadata'>, size: number): void {
  state.diskSize = size;
  state.toldSize = size;
  state.changed = true;
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
