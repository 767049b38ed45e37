/**
 * Writes that need a place first: into clusters that have none, that are shared with a snapshot, compressed, or marked
 * as zeros. Needs the exclusive lock. Data goes to its new place at once; the L2 entry that makes it visible changes in
 * memory afterwards, so a write that fails leaves the disk as it was.
 */

import type { ClusterData } from '../cluster-data.js';
import { hex, host } from '../format/units.js';
import type { Geometry } from '../geometry.js';
import type { MetadataCache } from '../metadata.js';
import type { OldContent } from '../old-content.js';
import type { Allocator, HostRun } from './allocator.js';
import { ClusterEntry, unitMask } from './cluster-entry.js';
import type { Corruption } from './corruption.js';
import type { L2Tables } from './l2-tables.js';

export class ClusterWriter {
  readonly #geometry: Geometry;
  readonly #metadata: MetadataCache;
  readonly #tables: L2Tables;
  readonly #allocator: Allocator;
  readonly #data: ClusterData;
  readonly #old: OldContent;
  readonly #corruption: Corruption;
  readonly #entry: ClusterEntry;
  #unit = Buffer.alloc(0);

  constructor(parts: {
    readonly geometry: Geometry;
    readonly metadata: MetadataCache;
    readonly tables: L2Tables;
    readonly allocator: Allocator;
    readonly data: ClusterData;
    readonly old: OldContent;
    readonly corruption: Corruption;
  }) {
    this.#geometry = parts.geometry;
    this.#metadata = parts.metadata;
    this.#tables = parts.tables;
    this.#allocator = parts.allocator;
    this.#data = parts.data;
    this.#old = parts.old;
    this.#corruption = parts.corruption;
    this.#entry = new ClusterEntry(parts.geometry);
  }

  /**
   * Writes the beginning of a range; its first entry must be sound.
   * @param length bytes; at least 1
   * @returns bytes written; at least 1
   */
  write(source: Buffer, at: number, length: number, offset: number): number {
    const { sliceCoverage, clusterSize } = this.#geometry;
    const slot = this.#tables.own(offset);
    const limit = Math.min(offset + length, offset - (offset % sliceCoverage) + sliceCoverage);
    const first = offset - (offset % clusterSize);
    if (this.#load(slot, first).owned) {
      const end = Math.min(limit, first + clusterSize);
      this.#writeOwned(slot, source, at, offset, end);
      return end - offset;
    }
    let count = 1;
    while (first + count * clusterSize < limit) {
      const { owned, sound } = this.#load(slot, first + count * clusterSize);
      if (owned || !sound) break;
      count++;
    }
    const run = this.#place(first, count);
    try {
      const end = Math.min(limit, first + run.count * clusterSize);
      this.#writeMoved(slot, run, source, at, offset, end);
      return end - offset;
    } catch (error) {
      if (!this.#geometry.externalData) this.#allocator.undo(run);
      throw error;
    }
  }

  #load(slot: number, at: number): ClusterEntry {
    this.#entry.load(this.#metadata.slots, this.#metadata.slotWords, slot, at);
    return this.#entry;
  }

  #store(slot: number): void {
    this.#entry.store(this.#metadata.slots);
    this.#metadata.markDirty(slot);
  }

  /** In an external data file every cluster has its place: at its guest offset. */
  #place(first: number, count: number): HostRun {
    if (!this.#geometry.externalData) return this.#allocator.allocate(count);
    this.#allocator.reusePart(first, count * this.#geometry.clusterSize);
    return { offset: host(first), count, fresh: false };
  }

  /** The cluster is ours; some of its subclusters may not have data yet. */
  #writeOwned(slot: number, source: Buffer, at: number, offset: number, end: number): void {
    const { clusterSize, unitSize } = this.#geometry;
    const start = offset - (offset % clusterSize);
    const { offset: home, data } = this.#load(slot, start);
    if (!this.#geometry.externalData) {
      this.#corruption.refuseMetadata(`guest offset ${hex(start)} is mapped to`, home, clusterSize);
    }
    const firstUnit = Math.floor((offset - start) / unitSize);
    const lastUnit = Math.floor((end - 1 - start) / unitSize);
    const from = (data >>> firstUnit) & 1 ? offset : start + firstUnit * unitSize;
    const to = (data >>> lastUnit) & 1 ? end : this.#unitEnd(start + lastUnit * unitSize);
    this.#allocator.reusePart(home + from - start, to - from);
    this.#writeFilled(source, at, offset, end, from, to, home - start);
    this.#load(slot, start);
    const units = unitMask(firstUnit, lastUnit);
    if ((this.#entry.data & units) >>> 0 === units) return;
    this.#entry.data = (this.#entry.data | units) >>> 0;
    this.#entry.zeros = (this.#entry.zeros & ~units) >>> 0;
    this.#store(slot);
  }

  /** All clusters of the run get a new home; what they had is released. */
  #writeMoved(slot: number, run: HostRun, source: Buffer, at: number, offset: number, end: number): void {
    const { clusterSize, unitSize } = this.#geometry;
    const start = offset - (offset % clusterSize);
    const shift = run.offset - start;
    const from = offset - (offset % unitSize);
    const to = this.#unitEnd(end - 1 - ((end - 1) % unitSize));
    this.#copyUnits(slot, start, start, from, shift);
    const lastStart = end - 1 - ((end - 1) % clusterSize);
    this.#copyUnits(slot, lastStart, to, lastStart + clusterSize, shift);

    const bare = run.fresh && !this.#data.isEncrypted;
    const zeroHead = bare && this.#old.isZero(from, offset - from);
    const zeroTail = bare && this.#old.isZero(end, this.#insideDisk(end, to));
    this.#writeFilled(source, at, offset, end, zeroHead ? offset : from, zeroTail ? end : to, shift);

    for (let cluster = start; cluster < end; cluster += clusterSize) {
      const firstUnit = Math.max(0, Math.floor((offset - cluster) / unitSize));
      const lastUnit = Math.floor((Math.min(end, cluster + clusterSize) - 1 - cluster) / unitSize);
      const units = unitMask(firstUnit, lastUnit);
      this.#load(slot, cluster);
      this.#release();
      this.#entry.move(cluster + shift);
      this.#entry.data = (this.#entry.data | units) >>> 0;
      this.#entry.zeros = (this.#entry.zeros & ~units) >>> 0;
      this.#store(slot);
    }
  }

  /** What the loaded entry refers to. */
  #release(): void {
    if (this.#geometry.externalData) return;
    const { compressed, allocated, offset, compressedBytes } = this.#entry;
    if (compressed) this.#allocator.release(offset, compressedBytes);
    else if (allocated) this.#allocator.release(offset, this.#geometry.clusterSize);
  }

  /**
   * Copies the subclusters with data of one cluster, from guest offset `from` up to `to`, to their new home.
   * @param shift from guest offsets to host offsets
   */
  #copyUnits(slot: number, cluster: number, from: number, to: number, shift: number): void {
    const { unitSize } = this.#geometry;
    for (let unit = from; unit < to; unit += unitSize) {
      const { data } = this.#load(slot, cluster);
      if (((data >>> Math.floor((unit - cluster) / unitSize)) & 1) === 0) continue;
      const buffer = this.#buffer();
      const length = this.#unitEnd(unit) - unit;
      if (length <= 0) return;
      this.#readOld(buffer, 0, length, unit);
      this.#data.write(buffer, 0, length, unit, host(unit + shift));
    }
  }

  /** Writes `[offset, end)` from the source, and what the disk reads now around it, from `from` up to `to`. */
  #writeFilled(
    source: Buffer,
    at: number,
    offset: number,
    end: number,
    from: number,
    to: number,
    shift: number,
  ): void {
    const { unitSize } = this.#geometry;
    let done = offset;
    if (from < offset) {
      const unitEnd = Math.min(to, from + unitSize);
      done = Math.min(end, unitEnd);
      this.#writeMixed(source, at, offset, done, from, done < unitEnd ? unitEnd : done, shift);
    }
    if (done === end) return;
    const tail = to > end ? end - (end % unitSize) : end;
    const straight = Math.max(tail, done);
    if (straight > done) {
      this.#data.write(source, at + done - offset, straight - done, done, host(done + shift));
    }
    if (straight < end) {
      this.#writeMixed(source, at + straight - offset, straight, end, straight, to, shift);
    }
  }

  /** One subcluster, of which `[offset, end)` is new and the rest is as it was. */
  #writeMixed(
    source: Buffer,
    at: number,
    offset: number,
    end: number,
    from: number,
    to: number,
    shift: number,
  ): void {
    const buffer = this.#buffer();
    if (offset > from) this.#readOld(buffer, 0, offset - from, from);
    source.copy(buffer, offset - from, at, at + end - offset);
    if (to > end) this.#readOld(buffer, end - from, to - end, end);
    this.#data.write(buffer, 0, to - from, from, host(from + shift));
  }

  /** What lies beyond the end of the disk is zeros, so that nothing else shows when the disk grows. */
  #readOld(target: Buffer, at: number, length: number, offset: number): void {
    const inside = this.#insideDisk(offset, offset + length);
    if (inside > 0) this.#old.read(target, at, inside, offset);
    target.fill(0, at + inside, at + length);
  }

  #insideDisk(from: number, to: number): number {
    return Math.max(0, Math.min(to, this.#metadata.state.diskSize) - from);
  }

  /** Where a subcluster ends. An external data file is no longer than the disk. */
  #unitEnd(start: number): number {
    const end = start + this.#geometry.unitSize;
    return this.#geometry.externalData ? Math.min(end, this.#metadata.state.diskSize) : end;
  }

  #buffer(): Buffer {
    if (this.#unit.length === 0) this.#unit = Buffer.alloc(this.#geometry.unitSize);
    return this.#unit;
  }
}
