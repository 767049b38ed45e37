/**
 * The one place where metadata goes to the file, and the order in which it does. A power cut at any instant, between
 * any two writes that no sync separates, leaves an image without corruption: at worst some clusters are counted that
 * nothing uses.
 *
 *   1. New L2 tables and refcount blocks were filled with zeros when they were allocated, and guest data and what is
 *      copied with it was written when it came: nothing in the file refers to any of it yet.
 *   2. Refcount blocks, in which counts were only raised.
 *   3. Sync. Then the entries of new refcount blocks in the refcount table, if any, and sync again. Then the size of a
 *      disk that grew, and sync again: before anything beyond the old size is referred to, which a later growth would
 *      show (resize.ts).
 *   4. L2 entries, and L1 entries of new L2 tables: now everything that they refer to is there and counted.
 *   5. Sync. What was written before is on stable storage and can be found.
 *   6. Counts of what nothing refers to any more, and holes for clusters whose count is zero. Only now may a freed
 *      cluster be used again. Where a read that began before takes too long, this waits for the next commit.
 */
import type { Storage } from '../../storage.js';
import type { MetadataCache } from '../metadata.js';
import type { Allocator } from './allocator.js';
import { writeDiskSize } from './header-fields.js';
import type { Refcounts } from './refcounts.js';

export class Committer {
  readonly #image: Storage;
  readonly #data: Storage;
  readonly #metadata: MetadataCache;
  readonly #refcounts: Refcounts;
  readonly #allocator: Allocator;

  constructor(
    image: Storage,
    data: Storage,
    metadata: MetadataCache,
    refcounts: Refcounts,
    allocator: Allocator,
  ) {
    this.#image = image;
    this.#data = data;
    this.#metadata = metadata;
    this.#refcounts = refcounts;
    this.#allocator = allocator;
  }

  /**
   * Brings all metadata to stable storage, and the data before it. Needs the exclusive lock. After a write that failed
   * everything that may not have reached the file is tried again by the next commit; after a sync that failed there is
   * none.
   * @throws Qcow2fsError
   */
  commit(): void {
    const { state, l1Table, slices } = this.#metadata;
    state.refuseFrozen();
    if (!state.changed) return;
    const refcountTable = this.#refcounts.table;

    this.#refcounts.writeDirtySlices();
    this.syncAll();
    this.#refcounts.markSlicesClean();
    if (refcountTable.isDirty) {
      refcountTable.writeDirty(this.#image, state.tableOffset, state.tableSize);
      this.syncImage();
      refcountTable.markClean();
    }
    if (state.toldSize !== state.headerSize) {
      const size = state.toldSize;
      writeDiskSize(this.#image, size);
      this.syncImage();
      state.headerSize = size;
    }
    if (l1Table.isDirty || slices.nextDirty(0) !== -1) {
      this.#metadata.writeDirtySlices();
      l1Table.writeDirty(this.#image, state.l1Offset, state.l1Size);
      this.syncImage();
      l1Table.markClean();
      slices.markAllClean();
    }
    state.changed = false;
    // The lowered counts go to the file, too, but nothing waits for them: lost, they are leaks.
    this.#allocator.settleFrees();
  }

  /** All that was written, in the data file too, is on stable storage afterwards. */
  syncAll(): void {
    this.#metadata.state.syncing();
    if (this.#data !== this.#image) this.#sync(this.#data);
    this.syncImage();
  }

  /** As `syncAll`, for the image alone. */
  syncImage(): void {
    this.#sync(this.#image);
  }

  #sync(storage: Storage): void {
    const { state } = this.#metadata;
    try {
      storage.sync();
    } catch (error) {
      state.freezeLost();
      throw error;
    }
    // Another thread may have been told what happened to the writes of this one.
    state.refuseFrozen();
  }
}
