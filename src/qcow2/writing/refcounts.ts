/**
 * The reference counts of an image's host clusters: the refcount table and a cache of slices of refcount blocks, in
 * shared memory. All of it needs the exclusive lock of the image.
 *
 * A count in memory is never too low for what the file refers to: it is raised before anything refers to the cluster,
 * and lowered only when nothing does any more on disk (see commit.ts). So a slice may be written at any time.
 */
import type { Storage } from '../../storage.js';
import { EntryTable, type SharedEntryTable } from '../entry-table.js';
import { nextFree, readRefcount, writeRefcount } from '../format/refcounts.js';
import { hex, TWO_32 } from '../format/units.js';
import { allocateSliceCache, type SharedSliceCache, SliceCache } from '../slice-cache.js';
import type { Corruption } from './corruption.js';

const MAX_SLICE_BYTES = 4096;
/** Maps 4 TiB at 64 KiB a cluster and 16 bits a count. */
const CACHE_BYTES = 8 * 1024 * 1024;
/** Low bits of a table entry that are reserved (specification: "Refcount table entry"). */
const RESERVED_LOW = 0x1ff;

export interface SharedRefcounts {
  readonly table: SharedEntryTable;
  readonly slices: SharedSliceCache;
}

export function allocateRefcounts(clusterSize: number, table: SharedEntryTable): SharedRefcounts {
  const sliceBytes = Math.min(MAX_SLICE_BYTES, clusterSize);
  const slices = new EntryTable(table).capacity * (clusterSize / sliceBytes);
  return { table, slices: allocateSliceCache(sliceBytes, slices, CACHE_BYTES) };
}

export class Refcounts {
  readonly table: EntryTable;
  /** Clusters that one block counts. */
  readonly perBlock: number;
  readonly #slices: SliceCache;
  readonly #storage: Storage;
  readonly #corruption: Corruption;
  readonly #clusterSize: number;
  readonly #bits: number;
  readonly #sliceBytes: number;
  readonly #perSlice: number;
  readonly #input: Buffer;
  readonly #output: Buffer;

  constructor(
    shared: SharedRefcounts,
    storage: Storage,
    corruption: Corruption,
    clusterSize: number,
    refcountBits: number,
  ) {
    this.#corruption = corruption;
    this.table = new EntryTable(shared.table);
    this.#storage = storage;
    this.#clusterSize = clusterSize;
    this.#bits = refcountBits;
    this.#sliceBytes = Math.min(MAX_SLICE_BYTES, clusterSize);
    this.#slices = new SliceCache(shared.slices, this.#sliceBytes);
    this.perBlock = (clusterSize * 8) / refcountBits;
    this.#perSlice = (this.#sliceBytes * 8) / refcountBits;
    this.#input = Buffer.alloc(this.#sliceBytes);
    this.#output = Buffer.alloc(this.#sliceBytes);
  }

  /** Host offset of a refcount block; 0 where there is none, also beyond the table. @throws Qcow2fsError `corrupt` */
  blockOffset(block: number): number {
    if (block >= this.table.capacity) return 0;
    const high = this.table.words[2 * block]!;
    const low = this.table.words[2 * block + 1]!;
    const offset = high * TWO_32 + low;
    if ((low & RESERVED_LOW) !== 0 || offset % this.#clusterSize !== 0 || !Number.isSafeInteger(offset)) {
      this.#corruption.signal(
        `refcount table entry ${block}: block offset ${hex(offset)} is not aligned to clusters`,
      );
    }
    return offset;
  }

  /** @throws Qcow2fsError `corrupt` or `host-io` when the block cannot be read */
  get(cluster: number): number {
    const slot = this.#slot(cluster);
    if (slot === -1) return 0;
    return readRefcount(this.#slices.bytes, this.#bits, slot * this.#perSlice + (cluster % this.#perSlice));
  }

  /** The first cluster from `cluster` on that nothing uses. @throws Qcow2fsError as `get` */
  nextFree(cluster: number): number {
    const perSlice = this.#perSlice;
    for (let at = cluster; ; ) {
      const slot = this.#slot(at);
      if (slot === -1) return at;
      const first = at - (at % perSlice);
      const start = slot * perSlice;
      const found = nextFree(this.#slices.bytes, this.#bits, start + at - first, start + perSlice);
      if (found < start + perSlice) return first + found - start;
      at = first + perSlice;
    }
  }

  /** The cluster must have a refcount block. */
  set(cluster: number, value: number): void {
    const slot = this.#slot(cluster);
    if (slot === -1) throw new Error(`cluster ${cluster} has no refcount block`);
    writeRefcount(this.#slices.bytes, this.#bits, slot * this.#perSlice + (cluster % this.#perSlice), value);
    this.#slices.markDirty(slot);
  }

  writeDirtySlices(): void {
    for (let slot = this.#slices.nextDirty(0); slot !== -1; slot = this.#slices.nextDirty(slot + 1)) {
      this.#writeSlice(slot);
    }
  }

  markSlicesClean(): void {
    this.#slices.markAllClean();
  }

  /** The slot of the slice that counts the cluster; -1 where there is no block. */
  #slot(cluster: number): number {
    const key = Math.floor(cluster / this.#perSlice);
    const cached = this.#slices.lookup(key);
    if (cached !== -1) return cached;
    const block = this.blockOffset(Math.floor(cluster / this.perBlock));
    return block === 0 ? -1 : this.#fill(key, block);
  }

  #fill(key: number, block: number): number {
    const slicesPerBlock = this.#clusterSize / this.#sliceBytes;
    const position = block + (key % slicesPerBlock) * this.#sliceBytes;
    if (this.#storage.read(this.#input, 0, this.#sliceBytes, position) < this.#sliceBytes) {
      this.#corruption.signal(`the refcount block at ${hex(block)} lies outside the file`);
    }
    let slot = this.#slices.victim(key);
    if (slot === -1) {
      slot = this.#slices.firstOf(key);
      this.#writeSlice(slot);
      this.#slices.markClean(slot);
    }
    this.#slices.bytes.set(this.#input, slot * this.#sliceBytes);
    this.#slices.assign(slot, key);
    return slot;
  }

  #writeSlice(slot: number): void {
    const key = this.#slices.keyOf(slot);
    const slicesPerBlock = this.#clusterSize / this.#sliceBytes;
    const block = this.blockOffset(Math.floor(key / slicesPerBlock));
    const at = slot * this.#sliceBytes;
    this.#output.set(this.#slices.bytes.subarray(at, at + this.#sliceBytes));
    const position = block + (key % slicesPerBlock) * this.#sliceBytes;
    this.#storage.write(this.#output, 0, this.#sliceBytes, position);
  }
}
