/**
 * Owns what becomes of host clusters: the only place where they are taken into use and given back. Needs the exclusive
 * lock of the image throughout.
 *
 *   STATE     WHAT HOLDS
 *   free      its refcount is 0 and nothing refers to it
 *   used      its refcount is 1 or more; no punch waits for bytes of it that hold something
 *   pending   released, but the file may still refer to it: its refcount is lowered after the next commit
 *   punched   bytes that hold nothing, of a used cluster or of the data file: a hole after the next commit
 */
import { Qcow2fsError } from '../../errors.js';
import { notice } from '../../notice.js';
import type { Storage } from '../../storage.js';
import { type HostOffset, hex, host } from '../format/units.js';
import type { ImageState } from '../image-state.js';
import { MAX_HOST_OFFSET } from '../mapping.js';
import type { Corruption } from './corruption.js';
import type { MetadataMap } from './metadata-map.js';
import type { PendingFrees } from './pending-frees.js';
import { punchIfPossible } from './punch.js';
import type { Refcounts } from './refcounts.js';

const FREE = 'the reference counts say that clusters are free at';

/**
 * How long a commit waits for reads and writes that began before it: milliseconds. They take as long only where a host
 * is stuck.
 */
const PATIENCE = 50;
/** The same where there is no room to wait for the next commit. */
const LAST_PATIENCE = 1000;

/** Contiguous host clusters, each counted once. */
export interface HostRun {
  readonly offset: HostOffset;
  /** Clusters. */
  readonly count: number;
  /** Never written before: reads as zeros. */
  readonly fresh: boolean;
}

/** Makes the refcount table larger, so that it has an entry for the block. */
export type GrowRefcountTable = (block: number) => void;

export class Allocator {
  readonly #image: Storage;
  readonly #data: Storage;
  readonly #clusterSize: number;
  readonly #state: ImageState;
  readonly #refcounts: Refcounts;
  readonly #map: MetadataMap;
  readonly #frees: PendingFrees;
  readonly #corruption: Corruption;
  readonly #zeros: Buffer;
  #grow: GrowRefcountTable = () => {};

  constructor(parts: {
    readonly image: Storage;
    /** What holds the guest's data: the image, or its data file. */
    readonly data: Storage;
    readonly clusterSize: number;
    readonly state: ImageState;
    readonly refcounts: Refcounts;
    readonly map: MetadataMap;
    readonly frees: PendingFrees;
    readonly corruption: Corruption;
  }) {
    this.#image = parts.image;
    this.#data = parts.data;
    this.#clusterSize = parts.clusterSize;
    this.#state = parts.state;
    this.#refcounts = parts.refcounts;
    this.#map = parts.map;
    this.#frees = parts.frees;
    this.#corruption = parts.corruption;
    this.#zeros = Buffer.alloc(parts.clusterSize);
  }

  /** @param grow called when the refcount table has no entry for a block; not recursively */
  whenTableIsFull(grow: GrowRefcountTable): void {
    this.#grow = grow;
  }

  /**
   * @param wanted clusters; at least one
   * @returns a run of 1 to `wanted` clusters, counted in memory
   * @throws Qcow2fsError `no-space`, `corrupt` or `host-io`
   */
  allocate(wanted: number): HostRun {
    return this.#take(() => this.#findRun(this.#state.firstFree, 1, wanted));
  }

  /** As `allocate`, exactly `count` clusters. */
  allocateExactly(count: number): HostRun {
    return this.#take(() => this.#findRun(this.#state.firstFree, count, count));
  }

  /**
   * A cluster for a table, which is in the file at once.
   * @param content a cluster of it; zeros unless given
   */
  allocateTable(content: Buffer = this.#zeros): HostOffset {
    const run = this.allocate(1);
    try {
      this.#image.write(content, 0, this.#clusterSize, run.offset);
    } catch (error) {
      this.undo(run);
      throw error;
    }
    this.#map.add(run.offset, this.#clusterSize);
    return run.offset;
  }

  /** Takes back clusters that nothing ever referred to. */
  undo({ offset, count }: HostRun): void {
    const first = offset / this.#clusterSize;
    for (let cluster = first; cluster < first + count; cluster++) this.#refcounts.set(cluster, 0);
    this.#state.changed = true;
    this.#state.firstFree = Math.min(this.#state.firstFree, first);
  }

  /**
   * The disk no longer refers to these host bytes: one reference less for each cluster, after the next commit.
   * @throws Qcow2fsError `corrupt` when metadata lies there, which no entry of the disk may refer to
   */
  release(offset: number, length: number): void {
    this.#corruption.refuseMetadata('the disk refers to clusters at', offset, length);
    this.#releaseLater(offset, length);
  }

  /** As `release`, for a table that another one replaced. A snapshot may still use it. */
  releaseTable(offset: number, length: number): void {
    this.#map.remove(offset, length);
    this.#releaseLater(offset, length);
  }

  #releaseLater(offset: number, length: number): void {
    const first = Math.floor(offset / this.#clusterSize);
    const end = Math.ceil((offset + length) / this.#clusterSize);
    this.#frees.addClusters(first, end - first);
    this.#state.changed = true;
  }

  /** These bytes of guest data, in a cluster that stays in use, hold nothing: a hole after the next commit. */
  releasePart(offset: number, length: number): void {
    this.#frees.addPunch(offset, length);
    this.#state.changed = true;
  }

  /** These bytes, in a cluster that was used already, are about to hold guest data. */
  reusePart(offset: number, length: number): void {
    this.#frees.cancelPunches(offset, length);
  }

  /** There may be no room for what the next operation releases: commit first. */
  get wantsCommit(): boolean {
    return this.#frees.isFull;
  }

  /**
   * For the commit, when nothing in the file refers to what was released: lowers counts and makes holes. What a failure
   * leaves is done by the next commit, and so is all of it while somebody still reads or writes there. Where there are
   * too many to wait, they stay counted.
   */
  settleFrees(): void {
    if (this.#frees.isEmpty) return;
    const { isFull } = this.#frees;
    if (!this.#state.drainPins(isFull ? LAST_PATIENCE : PATIENCE)) {
      if (isFull) this.#abandonFrees();
      else this.#state.changed = true;
      return;
    }
    this.#state.settle();
    try {
      this.#lowerCounts();
      this.#refcounts.writeDirtySlices();
    } catch (error) {
      this.#state.changed = true;
      throw error;
    }
    for (const [offset, length] of this.#frees.takePunches()) punchIfPossible(this.#data, offset, length);
  }

  #abandonFrees(): void {
    this.#frees.clear();
    notice(
      `${this.#image.path}: the host does not answer, so clusters that nothing uses any more stay counted; give them back after the unmount: qcow2fs check --repair leaks`,
    );
  }

  #lowerCounts(): void {
    let first = 0;
    let end = 0;
    try {
      this.#frees.takeClusters((cluster) => {
        if (!this.#lowerCount(cluster)) return;
        if (cluster !== end) {
          this.#punch(first, end);
          first = cluster;
        }
        end = cluster + 1;
      });
    } finally {
      this.#punch(first, end);
    }
  }

  /** @returns whether nothing uses the cluster any more */
  #lowerCount(cluster: number): boolean {
    const before = this.#refcounts.get(cluster);
    if (before === 0) {
      const where = `cluster ${hex(cluster * this.#clusterSize)}`;
      this.#corruption.signal(`${where} was in use, but its reference count is 0`);
    }
    this.#refcounts.set(cluster, before - 1);
    if (before > 1) return false;
    this.#state.firstFree = Math.min(this.#state.firstFree, cluster);
    return true;
  }

  /**
   * Free clusters come into use; the caller counts them.
   * @returns whether they were never written before
   * @throws Qcow2fsError `corrupt` when metadata lies there, `no-space` beyond the end of a device
   */
  use(offset: number, length: number): boolean {
    if (!this.#image.extensible && offset + length > this.#image.size()) {
      throw new Qcow2fsError(
        'no-space',
        `${this.#image.path}: the device is full: the image needs more than its ${this.#image.size()} bytes`,
      );
    }
    this.#corruption.refuseMetadata(FREE, offset, length);
    if (this.#data === this.#image) this.#frees.cancelPunches(offset, length);
    const fresh = offset >= this.#state.fileEnd;
    this.#state.fileEnd = Math.max(this.#state.fileEnd, offset + length);
    this.#state.changed = true;
    return fresh;
  }

  #punch(first: number, end: number): void {
    if (end <= first) return;
    punchIfPossible(this.#image, first * this.#clusterSize, (end - first) * this.#clusterSize);
  }

  #take(find: () => { first: number; count: number }): HostRun {
    this.#state.refuseFrozen();
    let run = find();
    while (!this.#ensureBlocks(run.first, run.count)) run = find();
    const offset = host(run.first * this.#clusterSize);
    const fresh = this.use(offset, run.count * this.#clusterSize);
    for (let i = 0; i < run.count; i++) this.#refcounts.set(run.first + i, 1);
    if (run.first === this.#state.firstFree) this.#state.firstFree = run.first + run.count;
    return { offset, count: run.count, fresh };
  }

  /** The first run of at least `min` free clusters, at most `max` of it. */
  #findRun(from: number, min: number, max: number): { first: number; count: number } {
    let first = from;
    let count = 0;
    while (count < max) {
      if (this.#refcounts.get(first + count) === 0) {
        count++;
      } else if (count >= min) {
        break;
      } else {
        first = this.#refcounts.nextFree(first + count + 1);
        count = 0;
        // Everything up to here is in use.
        if (min === 1) this.#state.firstFree = first;
      }
    }
    if ((first + count) * this.#clusterSize > MAX_HOST_OFFSET) {
      const what = 'the reference counts say that all clusters are in use';
      throw new Qcow2fsError('no-space', `${this.#image.path}: ${what}; copy the image: qemu-img convert`);
    }
    return { first, count };
  }

  /**
   * Sees to it that the clusters can be counted.
   * @returns false when that took clusters: the run may be among them
   */
  #ensureBlocks(first: number, count: number): boolean {
    const { perBlock } = this.#refcounts;
    const last = Math.floor((first + count - 1) / perBlock);
    let complete = true;
    for (let block = Math.floor(first / perBlock); block <= last; block++) {
      if (this.#refcounts.blockOffset(block) !== 0) continue;
      complete = false;
      if (block >= this.#state.tableSize) this.#grow(block);
      else this.#addBlock(block);
    }
    return complete;
  }

  /**
   * Adds the block in the first free cluster. Where that cluster has no block either, the new block is made to count
   * it, and so itself; the wanted one comes next.
   */
  #addBlock(wanted: number): void {
    const { first } = this.#findRun(this.#state.firstFree, 1, 1);
    const own = Math.floor(first / this.#refcounts.perBlock);
    const block = this.#refcounts.blockOffset(own) === 0 ? own : wanted;
    const offset = first * this.#clusterSize;
    this.use(offset, this.#clusterSize);
    this.#image.write(this.#zeros, 0, this.#clusterSize, offset);
    this.#map.add(offset, this.#clusterSize);
    this.#refcounts.table.setOffset(block, offset);
    try {
      this.#refcounts.set(first, 1);
    } catch (error) {
      // A block that is not counted must not be named.
      this.#refcounts.table.setOffset(block, 0);
      this.#map.remove(offset, this.#clusterSize);
      throw error;
    }
  }
}
