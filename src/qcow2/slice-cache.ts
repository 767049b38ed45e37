/**
 * A cache of metadata slices in shared memory: pieces of L2 tables, or of refcount blocks. Set-associative, with a
 * mark for slices that were used and one for slices that differ from the file. Everything but `lookup` needs the
 * exclusive lock of the image.
 */

import { TWO_32 } from './format/units.js';

/** Slots in a set: the places where a slice may be. */
const WAYS = 4;
const NO_KEY = -1;
/** 2^32 divided by the golden ratio, odd. */
const GOLDEN_RATIO = 0x9e37_79b1;

/** What another thread needs to use the same cache. */
export interface SharedSliceCache {
  readonly keys: SharedArrayBuffer;
  readonly slots: SharedArrayBuffer;
  readonly used: SharedArrayBuffer;
  readonly dirty: SharedArrayBuffer;
}

/**
 * @param sliceBytes bytes of a slice, a power of 2
 * @param wanted slices that there are; no more than twice as many slots are made
 * @param maxBytes the most that the slots may take
 */
export function allocateSliceCache(sliceBytes: number, wanted: number, maxBytes: number): SharedSliceCache {
  const affordable = Math.max(WAYS, Math.floor(maxBytes / sliceBytes));
  const sets = 2 ** Math.max(0, Math.floor(Math.log2(Math.min(2 * wanted, affordable) / WAYS)));
  const count = sets * WAYS;
  const keys = new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT);
  new Float64Array(keys).fill(NO_KEY);
  return {
    keys,
    slots: new SharedArrayBuffer(count * sliceBytes),
    used: new SharedArrayBuffer(count),
    dirty: new SharedArrayBuffer(count),
  };
}

export class SliceCache {
  /** The slices as words and as bytes; a slot starts at `slot * slotWords` and `slot * sliceBytes`. */
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
  readonly sliceBytes: number;
  readonly slotWords: number;
  readonly #keys: Float64Array;
  readonly #used: Uint8Array;
  readonly #dirty: Uint8Array;
  /** From a hash of 32 bits to the number of a set. */
  readonly #shift: number;

  constructor(shared: SharedSliceCache, sliceBytes: number) {
    this.words = new Uint32Array(shared.slots);
    this.bytes = new Uint8Array(shared.slots);
    this.sliceBytes = sliceBytes;
    this.slotWords = sliceBytes / 4;
    this.#keys = new Float64Array(shared.keys);
    this.#used = new Uint8Array(shared.used);
    this.#dirty = new Uint8Array(shared.dirty);
    this.#shift = 32 - Math.log2(this.#keys.length / WAYS);
  }

  /** The slot that holds the slice, or -1. A lost mark of use costs one read, so nothing guards it. */
  lookup(key: number): number {
    const first = this.firstOf(key);
    for (let slot = first; slot < first + WAYS; slot++) {
      if (this.#keys[slot] === key) {
        if (this.#used[slot] === 0) this.#used[slot] = 1;
        return slot;
      }
    }
    return -1;
  }

  /**
   * The slot that a slice which is not cached may take: a clean one that no lookup used lately.
   * @returns -1 when all slices that could go are dirty
   */
  victim(key: number): number {
    const first = this.firstOf(key);
    let clean = -1;
    for (let slot = first; slot < first + WAYS; slot++) {
      if (this.#dirty[slot] !== 0) continue;
      if (this.#used[slot] === 0) return slot;
      if (clean === -1) clean = slot;
    }
    this.#used.fill(0, first, first + WAYS);
    return clean;
  }

  /**
   * The first slot of the set that `key` belongs to, for a caller who makes room there. What lies a power of 2 apart,
   * as file systems and tables do, must not meet in one set (Fibonacci hashing).
   */
  firstOf(key: number): number {
    // A shift by 32 would be none.
    if (this.#shift === 32) return 0;
    const hash = Math.imul((key % TWO_32) ^ (key / TWO_32), GOLDEN_RATIO);
    return (hash >>> this.#shift) * WAYS;
  }

  /** Names the slice whose content the slot holds now. */
  assign(slot: number, key: number): void {
    this.#keys[slot] = key;
    this.#used[slot] = 1;
  }

  /** The slot is free again. */
  forget(slot: number): void {
    this.#keys[slot] = NO_KEY;
  }

  keyOf(slot: number): number {
    return this.#keys[slot]!;
  }

  markDirty(slot: number): void {
    this.#dirty[slot] = 1;
  }

  markClean(slot: number): void {
    this.#dirty[slot] = 0;
  }

  markAllClean(): void {
    this.#dirty.fill(0);
  }

  /** All other slots of its set are dirty. */
  isLastClean(slot: number): boolean {
    const first = slot - (slot % WAYS);
    for (let other = first; other < first + WAYS; other++) {
      if ((this.#dirty[other] === 0) !== (other === slot)) return false;
    }
    return true;
  }

  /** The first dirty slot from `slot` on, or -1. */
  nextDirty(slot: number): number {
    return this.#dirty.indexOf(1, slot);
  }
}
