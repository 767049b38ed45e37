/**
 * The mapping of one image, shared by all threads that serve it: the L1 table and a cache of L2 slices, in shared
 * memory, guarded by one reader/writer lock.
 *
 *   STRUCTURE    GUARDED BY  DESCRIPTION
 *   L1 table     lock        pairs of u32: high and low half of each entry
 *   L2 slices    lock        a slice cache; pairs of u32 as above
 *   used marks   nothing     set at each hit, cleared by the search for a victim; a lost mark costs one read
 *
 * A mapping that was looked up is valid until the lock is released, and its place as long as it is pinned: what is still
 * being read or written is given back only when that has ended (`ImageState.pin`). So data is read, and written where it
 * lies already, beside the lock, and so are L2 slices read: a host that takes seconds for one request holds up nothing
 * else. What needs a new place is written under the exclusive lock, as is metadata.
 */
import { Qcow2fsError } from '../errors.js';
import { RwLock } from '../host/rw-lock.js';
import { notice } from '../notice.js';
import type { Storage } from '../storage.js';
import { EntryTable, type SharedEntryTable } from './entry-table.js';
import { COPIED_HIGH, entryOffset, isCopied, LOST_ENTRY } from './format/entries.js';
import { hex, swapWords, TWO_32 } from './format/units.js';
import type { Geometry } from './geometry.js';
import { ImageState, type SharedImageState } from './image-state.js';
import { allocateSliceCache, type SharedSliceCache, SliceCache } from './slice-cache.js';

/** What another thread needs to use the same metadata. */
export interface SharedMetadata {
  readonly lock: SharedArrayBuffer;
  readonly state: SharedImageState;
  readonly l1: SharedEntryTable;
  readonly slices: SharedSliceCache;
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
   * @returns its slot
   * @throws Qcow2fsError `corrupt` when its table lies outside the file (read-only, all of the slice), `host-io` when it cannot be read
   */
  fill(sliceKey: number): number;
  readonly l1Table: EntryTable;
  readonly slices: SliceCache;
}

/**
 * @param l1 its first `state.l1Size` entries filled in
 * @param cacheBytes the most that the L2 cache may take
 */
export function allocateMetadata(
  geometry: Geometry,
  state: SharedImageState,
  l1: SharedEntryTable,
  cacheBytes: number,
): SharedMetadata {
  const { capacity } = new EntryTable(l1);
  const slices = allocateSliceCache(geometry.sliceBytes, capacity * geometry.slicesPerTable, cacheBytes);
  return { lock: RwLock.allocate(), state, l1, slices };
}

export class MetadataCache implements MutableMetadata {
  readonly state: ImageState;
  readonly l1Table: EntryTable;
  readonly slices: SliceCache;
  readonly l1: Uint32Array;
  readonly slots: Uint32Array;
  readonly slotWords: number;
  readonly #lock: RwLock;
  readonly #geometry: Geometry;
  readonly #storage: Storage;
  readonly #readOnly: boolean;
  /** Where a slice is read to: its bytes and the same as words. */
  readonly #slice: Buffer;
  readonly #sliceWords: Uint32Array;
  #makeRoom: () => void = () => {};

  /** @param readOnly what there is of a table that is cut off may be read */
  constructor(shared: SharedMetadata, geometry: Geometry, storage: Storage, readOnly: boolean) {
    this.#readOnly = readOnly;
    this.#lock = new RwLock(shared.lock);
    this.state = new ImageState(shared.state);
    this.l1Table = new EntryTable(shared.l1);
    this.slices = new SliceCache(shared.slices, geometry.sliceBytes);
    this.l1 = this.l1Table.words;
    this.slots = this.slices.words;
    this.slotWords = this.slices.slotWords;
    this.#geometry = geometry;
    this.#storage = storage;
    this.#sliceWords = new Uint32Array(this.slotWords);
    this.#slice = Buffer.from(this.#sliceWords.buffer);
  }

  get l1Size(): number {
    return this.state.l1Size;
  }

  /** @param makeRoom makes all slices clean, when one is about to change and its set has no other clean one */
  whenFull(makeRoom: () => void): void {
    this.#makeRoom = makeRoom;
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
    return this.slices.lookup(sliceKey);
  }

  fill(sliceKey: number): number {
    const cached = this.slices.lookup(sliceKey);
    if (cached !== -1) return cached;
    this.#readSlice(sliceKey, this.tableOffset(Math.floor(sliceKey / this.#geometry.slicesPerTable)));
    return this.#keepSlice(sliceKey);
  }

  /**
   * As `fill`, for a thread that holds no lock: none is held while the host reads. What was read does not count when
   * tables changed in between.
   */
  fillBesideLock(sliceKey: number): void {
    this.enterShared();
    const changes = this.state.tableChanges;
    const table = this.tableOffset(Math.floor(sliceKey / this.#geometry.slicesPerTable));
    this.leaveShared();
    this.#readSlice(sliceKey, table);
    this.enterExclusive();
    try {
      if (this.state.tableChanges !== changes) this.fill(sliceKey);
      else if (this.slices.lookup(sliceKey) === -1) this.#keepSlice(sliceKey);
    } finally {
      this.leaveExclusive();
    }
  }

  #readSlice(sliceKey: number, table: number): void {
    const { sliceBytes, slicesPerTable } = this.#geometry;
    const position = table + (sliceKey % slicesPerTable) * sliceBytes;
    const read = this.#storage.read(this.#slice, 0, sliceBytes, position);
    if (read < sliceBytes) this.#fillUp(read, position, table, Math.floor(sliceKey / slicesPerTable));
    swapWords(this.#slice);
  }

  #keepSlice(sliceKey: number): number {
    const slot = this.slices.victim(sliceKey);
    this.slots.set(this.#sliceWords, slot * this.slotWords);
    this.slices.assign(slot, sliceKey);
    return slot;
  }

  /** Of a slice that the end of the file cuts off the missing entries are lost. */
  #fillUp(read: number, position: number, table: number, l1Index: number): void {
    const { entryBytes } = this.#geometry;
    const what = `${this.#storage.path}: L1 entry ${l1Index}: the L2 table at ${hex(table)} lies outside the file`;
    const whole = read - (read % entryBytes);
    if (!this.#readOnly || whole === 0) throw new Qcow2fsError('corrupt', what);
    this.#slice.fill(LOST_ENTRY, whole);
    notice(`${what} from entry ${(position - table + whole) / entryBytes} on`);
  }

  /**
   * As `fill`, for a slice that is about to change. Never are all slices of a set dirty, so that reading another one
   * needs no write first, which fails where the image is frozen or the host is full.
   */
  fillToChange(sliceKey: number): number {
    const slot = this.fill(sliceKey);
    if (this.slices.isLastClean(slot)) this.#makeRoom();
    return slot;
  }

  /** Host offset of an L2 table; 0 for none. */
  tableOffset(l1Index: number): number {
    return entryOffset(this.l1[2 * l1Index]!, this.l1[2 * l1Index + 1]!);
  }

  /** The slot of the slice differs from the file now. */
  markDirty(slot: number): void {
    this.slices.markDirty(slot);
    this.state.changed = true;
  }

  /** The L2 table lies at `offset` now, and nothing else refers to it; 0 for none. */
  setTable(l1Index: number, offset: number): void {
    const copied = offset === 0 ? 0 : COPIED_HIGH;
    this.l1Table.set(l1Index, (Math.floor(offset / TWO_32) | copied) >>> 0, offset % TWO_32);
    this.state.tableChanges++;
    this.state.changed = true;
  }

  /** The cached slices of an L2 table do not count any more; none of them is dirty. */
  forgetSlices(l1Index: number): void {
    const { slicesPerTable } = this.#geometry;
    for (let key = l1Index * slicesPerTable; key < (l1Index + 1) * slicesPerTable; key++) {
      const slot = this.slices.lookup(key);
      if (slot !== -1) this.slices.forget(slot);
    }
  }

  /** The L2 table belongs to this disk alone, no snapshot uses it. */
  ownsTable(l1Index: number): boolean {
    return isCopied(this.l1[2 * l1Index]!);
  }

  /** Writes the slices that differ from the file, each into the table that the L1 entry names now. */
  writeDirtySlices(): void {
    const { sliceBytes, slicesPerTable } = this.#geometry;
    this.state.tableChanges++;
    for (let slot = this.slices.nextDirty(0); slot !== -1; slot = this.slices.nextDirty(slot + 1)) {
      const key = this.slices.keyOf(slot);
      const table = this.tableOffset(Math.floor(key / slicesPerTable));
      this.#sliceWords.set(this.slots.subarray(slot * this.slotWords, (slot + 1) * this.slotWords));
      swapWords(this.#slice);
      this.#storage.write(this.#slice, 0, sliceBytes, table + (key % slicesPerTable) * sliceBytes);
    }
  }
}
