/**
 * The metadata of one image, shared by all threads that serve it: the L1 table and a cache of L2 slices, in shared
 * memory, guarded by one reader/writer lock.
 *
 *   STRUCTURE    GUARDED BY  DESCRIPTION
 *   L1 table     lock        pairs of u32: high and low half of each entry
 *   slot keys    lock        which slice each cache slot holds; -1 for none
 *   slots        lock        the slices, pairs of u32 as above
 *   used marks   nothing     set at each hit, cleared by the search for a victim; a lost mark costs one read
 *
 * A mapping that was looked up is valid until the lock is released, so data is moved under the lock that found it.
 */
import { Qcow2fsError } from '../errors.js';
import { RwLock } from '../host/rw-lock.js';
import type { Storage } from '../storage.js';
import { entryOffset } from './format/entries.js';
import { hex, swapWords } from './format/units.js';
import type { Geometry } from './geometry.js';

/** Slots in a set: the places where a slice may be. */
const WAYS = 4;
const NO_KEY = -1;

/** What another thread needs to use the same metadata. */
export interface SharedMetadata {
  readonly lock: SharedArrayBuffer;
  readonly l1: SharedArrayBuffer;
  readonly keys: SharedArrayBuffer;
  readonly slots: SharedArrayBuffer;
  readonly used: SharedArrayBuffer;
}

/** What the shared lock allows: looking things up. */
export interface Metadata {
  /** Entries. */
  readonly l1Size: number;
  /** Pairs of u32. */
  readonly l1: Uint32Array;
  /** Pairs of u32; a slot starts at `slot * slotWords`. */
  readonly slots: Uint32Array;
  readonly slotWords: number;
  /** The slot that holds the slice, or -1. `sliceKey` counts slices from the start of the disk. */
  lookup(sliceKey: number): number;
}

/** What the exclusive lock allows besides. */
export interface MutableMetadata extends Metadata {
  /**
   * Brings the slice into the cache.
   * @throws Qcow2fsError `corrupt` when its table lies outside the file, `host-io` when it cannot be read
   */
  fill(sliceKey: number): void;
}

/**
 * @param l1 as `readL1` gives it
 * @param diskSize guest bytes; no more slots are made than it can use
 * @param cacheBytes the most that the L2 cache may take
 */
export function allocateMetadata(
  geometry: Geometry,
  l1: SharedArrayBuffer,
  diskSize: number,
  cacheBytes: number,
): SharedMetadata {
  const wanted = Math.ceil(diskSize / geometry.sliceCoverage);
  const affordable = Math.max(WAYS, Math.floor(cacheBytes / geometry.sliceBytes));
  const sets = 2 ** Math.max(0, Math.floor(Math.log2(Math.min(2 * wanted, affordable) / WAYS)));
  const slotCount = sets * WAYS;
  const shared: SharedMetadata = {
    lock: RwLock.allocate(),
    l1,
    keys: new SharedArrayBuffer(slotCount * Float64Array.BYTES_PER_ELEMENT),
    slots: new SharedArrayBuffer(slotCount * geometry.sliceBytes),
    used: new SharedArrayBuffer(slotCount),
  };
  new Float64Array(shared.keys).fill(NO_KEY);
  return shared;
}

export class MetadataCache implements MutableMetadata {
  readonly l1Size: number;
  readonly l1: Uint32Array;
  readonly slots: Uint32Array;
  readonly slotWords: number;
  readonly #lock: RwLock;
  readonly #keys: Float64Array;
  readonly #used: Uint8Array;
  readonly #sets: number;
  readonly #geometry: Geometry;
  readonly #storage: Storage;
  /** Where a slice is read to: its bytes and the same as words. */
  readonly #slice: Buffer;
  readonly #sliceWords: Uint32Array;

  constructor(shared: SharedMetadata, geometry: Geometry, storage: Storage) {
    this.#lock = new RwLock(shared.lock);
    this.l1 = new Uint32Array(shared.l1);
    this.l1Size = this.l1.length / 2;
    this.slots = new Uint32Array(shared.slots);
    this.slotWords = geometry.sliceBytes / 4;
    this.#keys = new Float64Array(shared.keys);
    this.#used = new Uint8Array(shared.used);
    this.#sets = this.#keys.length / WAYS;
    this.#geometry = geometry;
    this.#storage = storage;
    this.#sliceWords = new Uint32Array(this.slotWords);
    this.#slice = Buffer.from(this.#sliceWords.buffer);
  }

  enterShared(): Metadata {
    this.#lock.acquireShared();
    return this;
  }

  leaveShared(): void {
    this.#lock.releaseShared();
  }

  enterExclusive(): MutableMetadata {
    this.#lock.acquireExclusive();
    return this;
  }

  leaveExclusive(): void {
    this.#lock.releaseExclusive();
  }

  lookup(sliceKey: number): number {
    const first = (sliceKey % this.#sets) * WAYS;
    for (let slot = first; slot < first + WAYS; slot++) {
      if (this.#keys[slot] === sliceKey) {
        if (this.#used[slot] === 0) this.#used[slot] = 1;
        return slot;
      }
    }
    return -1;
  }

  fill(sliceKey: number): void {
    if (this.lookup(sliceKey) !== -1) return;
    const { sliceBytes, slicesPerTable } = this.#geometry;
    const l1Index = Math.floor(sliceKey / slicesPerTable);
    const table = entryOffset(this.l1[2 * l1Index]!, this.l1[2 * l1Index + 1]!);
    const position = table + (sliceKey % slicesPerTable) * sliceBytes;
    const read = this.#storage.read(this.#slice, 0, sliceBytes, position);
    if (read < sliceBytes) {
      throw new Qcow2fsError(
        'corrupt',
        `${this.#storage.path}: L1 entry ${l1Index}: the L2 table at ${hex(table)} lies outside the file`,
      );
    }
    const slot = this.#victim(sliceKey);
    swapWords(this.#slice);
    this.slots.set(this.#sliceWords, slot * this.slotWords);
    this.#keys[slot] = sliceKey;
    this.#used[slot] = 1;
  }

  /** The slot to replace: one that no lookup used since the last time all of its set were in use. */
  #victim(sliceKey: number): number {
    const first = (sliceKey % this.#sets) * WAYS;
    for (let slot = first; slot < first + WAYS; slot++) if (this.#used[slot] === 0) return slot;
    this.#used.fill(0, first, first + WAYS);
    return first;
  }
}
