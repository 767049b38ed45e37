/**
 * The latest inflated clusters of the images of a chain, shared by all threads: a cluster is read in many small pieces,
 * by whoever is at hand, and should be inflated once.
 *
 *   STRUCTURE  GUARDED BY          DESCRIPTION
 *   keys       lock                host offset of the compressed data, -1 for none; bytes and image
 *   users      lock, but to leave  threads that copy from the slot, or -1 while one fills it
 *   used       lock                rounds of the search for a victim that the slot outlives: 1 after a hit, 2 when it
 *                                  waits for its reader
 *   content    users               clusters; nobody fills a slot that has users
 *
 * The lock is held to look and to claim, never while bytes move.
 */
import { RwLock } from '../host/rw-lock.js';

/** Bytes of clusters that are kept, within these bounds. */
const CACHE_BYTES = 4 * 1024 * 1024;
const MIN_SLOTS = 4;
const MAX_SLOTS = 128;

/** More rounds than any slot outlives. */
const ROUNDS = 3;
const WAITS_FOR_READER = 2;

const NO_KEY = -1;
const FILLING = -1;
/** What is returned where there is no slot. */
export const NO_SLOT = -1;

/** How long a thread waits for another one that inflates the same cluster, before it does so itself: milliseconds. */
const PATIENCE = 1000;

/** What another thread needs to use the same clusters. */
export interface SharedInflatedClusters {
  readonly lock: SharedArrayBuffer;
  readonly keys: SharedArrayBuffer;
  readonly users: SharedArrayBuffer;
  readonly used: SharedArrayBuffer;
  /** Costs nothing before clusters come: the pages of fresh memory are no memory yet. */
  readonly content: SharedArrayBuffer;
}

export function allocateInflatedClusters(clusterSize: number): SharedInflatedClusters {
  const slots = Math.max(MIN_SLOTS, Math.min(MAX_SLOTS, CACHE_BYTES / clusterSize));
  const keys = new SharedArrayBuffer(2 * slots * Float64Array.BYTES_PER_ELEMENT);
  new Float64Array(keys).fill(NO_KEY);
  return {
    lock: RwLock.allocate(),
    keys,
    // The last word is the hand of the clock.
    users: new SharedArrayBuffer((slots + 1) * Int32Array.BYTES_PER_ELEMENT),
    used: new SharedArrayBuffer(slots),
    content: new SharedArrayBuffer(slots * clusterSize),
  };
}

export class InflatedClusters {
  /** All slots; each starts at `slot * clusterSize`. */
  readonly content: Buffer;
  readonly slots: number;
  readonly #lock: RwLock;
  readonly #keys: Float64Array;
  readonly #users: Int32Array;
  readonly #used: Uint8Array;

  constructor(shared: SharedInflatedClusters) {
    this.content = Buffer.from(shared.content);
    this.#lock = new RwLock(shared.lock);
    this.#keys = new Float64Array(shared.keys);
    this.#users = new Int32Array(shared.users);
    this.#used = new Uint8Array(shared.used);
    this.slots = this.#used.length;
  }

  /**
   * The slot that holds what is stored at `hostOffset` inflates to, waiting for it if it is being filled; it stays until `release`.
   * @returns `NO_SLOT` when it is not there
   */
  find(hostOffset: number, bytesAndImage: number): number {
    for (;;) {
      this.#lock.acquireExclusive();
      const slot = this.#slotOf(hostOffset, bytesAndImage);
      const isFilled = slot !== NO_SLOT && this.#users[slot] !== FILLING;
      if (isFilled) {
        Atomics.add(this.#users, slot, 1);
        this.#used[slot] = 1;
      }
      this.#lock.releaseExclusive();
      if (slot === NO_SLOT || isFilled) return slot;
      if (Atomics.wait(this.#users, slot, FILLING, PATIENCE) === 'timed-out') return NO_SLOT;
    }
  }

  /**
   * A slot for a cluster that is not there: the caller fills it and says `publish`, or `abandon` if that fails.
   * @param isAhead somebody will probably read it soon
   * @returns `NO_SLOT` when the cluster is there or is being filled, or when all slots are in use
   */
  claim(hostOffset: number, bytesAndImage: number, isAhead: boolean): number {
    this.#lock.acquireExclusive();
    const slot = this.#slotOf(hostOffset, bytesAndImage) === NO_SLOT ? this.#victim() : NO_SLOT;
    if (slot !== NO_SLOT) {
      this.#keys[2 * slot] = hostOffset;
      this.#keys[2 * slot + 1] = bytesAndImage;
      this.#used[slot] = isAhead ? WAITS_FOR_READER : 0;
      Atomics.store(this.#users, slot, FILLING);
    }
    this.#lock.releaseExclusive();
    return slot;
  }

  /** The slot is filled. The caller stays its user until `release`. */
  publish(slot: number): void {
    Atomics.store(this.#users, slot, 1);
    Atomics.notify(this.#users, slot);
  }

  /** The slot could not be filled. */
  abandon(slot: number): void {
    this.#lock.acquireExclusive();
    this.#keys[2 * slot] = NO_KEY;
    Atomics.store(this.#users, slot, 0);
    this.#lock.releaseExclusive();
    Atomics.notify(this.#users, slot);
  }

  release(slot: number): void {
    Atomics.sub(this.#users, slot, 1);
  }

  #slotOf(hostOffset: number, bytesAndImage: number): number {
    const keys = this.#keys;
    for (let slot = 0; slot < this.slots; slot++) {
      if (keys[2 * slot] === hostOffset && keys[2 * slot + 1] === bytesAndImage) return slot;
    }
    return NO_SLOT;
  }

  /** A slot without users that was not read since the hand came by last. */
  #victim(): number {
    const { slots } = this;
    for (let steps = ROUNDS * slots; steps > 0; steps--) {
      const slot = this.#users[slots]!;
      this.#users[slots] = (slot + 1) % slots;
      if (Atomics.load(this.#users, slot) !== 0) continue;
      if (this.#used[slot] === 0) return slot;
      this.#used[slot]!--;
    }
    return NO_SLOT;
  }
}
