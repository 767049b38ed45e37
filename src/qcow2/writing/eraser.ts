/**
 * Makes ranges read as zeros, by metadata where whole clusters or subclusters allow, else by writing zeros. Needs the
 * exclusive lock.
 */

import type { ClusterData } from '../cluster-data.js';
import type { Geometry } from '../geometry.js';
import { type Mapping, Run } from '../mapping.js';
import type { MetadataCache } from '../metadata.js';
import type { OldContent } from '../old-content.js';
import type { Allocator } from './allocator.js';
import { ClusterEntry, unitMask } from './cluster-entry.js';
import type { Corruption } from './corruption.js';
import type { L2Tables } from './l2-tables.js';
import type { ClusterWriter } from './writer.js';

/** Whether the host gets its space back, or keeps it for later writes. */
export type Erasure = 'discard' | 'zero';

export class Eraser {
  readonly #geometry: Geometry;
  readonly #metadata: MetadataCache;
  readonly #mapping: Mapping;
  readonly #tables: L2Tables;
  readonly #allocator: Allocator;
  readonly #data: ClusterData;
  readonly #old: OldContent;
  readonly #writer: ClusterWriter;
  readonly #corruption: Corruption;
  /** The data file shows the guest's view to those who read it alone. */
  readonly #rawExternal: boolean;
  readonly #entry: ClusterEntry;
  readonly #run = new Run();
  #zeros = Buffer.alloc(0);

  constructor(parts: {
    geometry: Geometry;
    metadata: MetadataCache;
    mapping: Mapping;
    tables: L2Tables;
    allocator: Allocator;
    data: ClusterData;
    old: OldContent;
    writer: ClusterWriter;
    corruption: Corruption;
    rawExternal: boolean;
  }) {
    this.#geometry = parts.geometry;
    this.#metadata = parts.metadata;
    this.#mapping = parts.mapping;
    this.#tables = parts.tables;
    this.#allocator = parts.allocator;
    this.#data = parts.data;
    this.#old = parts.old;
    this.#writer = parts.writer;
    this.#corruption = parts.corruption;
    this.#rawExternal = parts.rawExternal;
    this.#entry = new ClusterEntry(parts.geometry);
  }

  /**
   * Erases the beginning of a range whose first entry is sound.
   * @returns bytes erased; at least 1, at most to the end of an L2 slice or of a run without L2 tables
   */
  erase(how: Erasure, offset: number, length: number): number {
    const { clusterSize, sliceCoverage, tableCoverage } = this.#geometry;
    if (this.#metadata.tableOffset(Math.floor(offset / tableCoverage)) === 0 && !this.#rawExternal) {
      this.#mapping.find(this.#metadata, offset, length, this.#run);
      if (this.#old.isZero(offset, this.#run.length)) return this.#run.length;
    }
    const end = Math.min(offset + length, offset - (offset % sliceCoverage) + sliceCoverage);
    let at = offset;
    while (at < end) {
      const start = at - (at % clusterSize);
      const stop = Math.min(end, start + clusterSize);
      if (!this.#load(start)) break;
      this.#eraseInCluster(how, start, at, stop);
      at = stop;
    }
    return at - offset;
  }

  /** @returns false for an entry that makes no sense; the caller looks closer when it comes first */
  #load(start: number): boolean {
    const { tableCoverage, sliceCoverage } = this.#geometry;
    if (this.#metadata.tableOffset(Math.floor(start / tableCoverage)) === 0) {
      this.#entry.clear();
      return true;
    }
    const slot = this.#metadata.fill(Math.floor(start / sliceCoverage));
    this.#entry.load(this.#metadata.slots, this.#metadata.slotWords, slot, start);
    return this.#entry.sound;
  }

  /** The part `[from, to)` of the cluster at `start`. */
  #eraseInCluster(how: Erasure, start: number, from: number, to: number): void {
    const { unitSize } = this.#geometry;
    const toTheEnd = to === this.#metadata.state.diskSize;
    const firstUnit = Math.ceil((from - start) / unitSize);
    const endUnit = toTheEnd ? Math.ceil((to - start) / unitSize) : Math.floor((to - start) / unitSize);
    if (firstUnit >= endUnit) {
      this.#writeZeros(from, to);
      return;
    }
    const wholeStart = start + firstUnit * unitSize;
    const wholeEnd = Math.min(to, start + endUnit * unitSize);
    if (from < wholeStart) this.#writeZeros(from, wholeStart);
    this.#eraseUnits(how, start, wholeStart, wholeEnd, firstUnit, endUnit);
    if (wholeEnd < to) this.#writeZeros(wholeEnd, to);
  }

  #eraseUnits(
    how: Erasure,
    start: number,
    from: number,
    to: number,
    firstUnit: number,
    endUnit: number,
  ): void {
    if (this.#rawExternal) {
      this.#data.zero(from, to - from);
      return;
    }
    const { unitSize, clusterSize } = this.#geometry;
    const clusterEnd = Math.min(start + clusterSize, this.#metadata.state.diskSize);
    const whole = firstUnit === 0 && endUnit === Math.ceil((clusterEnd - start) / unitSize);
    this.#load(start);
    const keepsHome = how === 'zero' || !this.#entry.allocated;
    if (keepsHome && this.#old.isZero(from, to - from)) return;
    if (!this.#canMark(from, whole)) {
      this.#writeZeros(from, to);
      return;
    }
    const slot = this.#tables.own(start);
    this.#load(start);
    if (whole) this.#eraseWhole(how, start);
    else this.#eraseSome(how, unitMask(firstUnit, endUnit - 1));
    this.#entry.store(this.#metadata.slots);
    this.#metadata.markDirty(slot);
  }

  /**
   * Version 2 has no mark for zeros: there only a cluster that nothing lies behind can be given up. Compressed clusters
   * have no subclusters.
   */
  #canMark(start: number, whole: boolean): boolean {
    if (!this.#geometry.zeroFlag) return !this.#old.hasBacking(start);
    return whole || !this.#entry.compressed;
  }

  #eraseWhole(how: Erasure, start: number): void {
    const { clusterSize, externalData, zeroFlag } = this.#geometry;
    const entry = this.#entry;
    if (how === 'discard' || !entry.owned || !zeroFlag) {
      if (externalData && entry.allocated) this.#allocator.releasePart(start, clusterSize);
      else if (entry.compressed) this.#allocator.release(entry.offset, entry.compressedBytes);
      else if (entry.allocated) this.#allocator.release(entry.offset, clusterSize);
      entry.drop();
    }
    entry.data = 0;
    entry.zeros = zeroFlag ? entry.allUnits : 0;
  }

  /** Extended L2 entries: some subclusters of a cluster that is not compressed. */
  #eraseSome(how: Erasure, units: number): void {
    const { clusterSize, externalData, unitSize, subclusters } = this.#geometry;
    const entry = this.#entry;
    const had = (entry.data & units) >>> 0;
    entry.zeros = (entry.zeros | units) >>> 0;
    entry.data = (entry.data & ~units) >>> 0;
    if (how === 'zero' || !entry.allocated) return;
    if (entry.data === 0 && !externalData) {
      this.#allocator.release(entry.offset, clusterSize);
      entry.drop();
      return;
    }
    if (!entry.owned) return;
    if (!externalData) this.#corruption.refuseMetadata('the disk refers to', entry.offset, clusterSize);
    for (let unit = 0; unit < subclusters; unit++) {
      if ((had >>> unit) & 1) this.#allocator.releasePart(entry.offset + unit * unitSize, unitSize);
    }
    if (entry.data === 0) entry.drop();
  }

  /** Zeros in a part of a cluster that does not read as zeros already. */
  #writeZeros(from: number, to: number): void {
    if (this.#zeros.length === 0) this.#zeros = Buffer.alloc(this.#geometry.clusterSize);
    for (let at = from; at < to; ) {
      const length = Math.min(this.#zeros.length, to - at);
      if (this.#old.isZero(at, length)) {
        at += length;
        continue;
      }
      at += this.#writer.write(this.#zeros, 0, length, at);
    }
  }
}
