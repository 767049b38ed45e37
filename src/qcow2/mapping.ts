/** From a guest offset to where its bytes are: walks L1 and L2 and merges what lies together. Reads nothing. */
import {
  type CompressedLayout,
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
  isCopied,
  isZero,
} from './format/entries.js';
import { type HostOffset, hex, host, TWO_32 } from './format/units.js';
import type { Geometry } from './geometry.js';
import type { Metadata } from './metadata.js';

/** Entries have room for 2^56, and compressed ones for more; nothing is exact beyond 2^53, and no file is so long. */
export const MAX_HOST_OFFSET = 2 ** 52;

export const RunKind = {
  /** Stored in no cluster of this image: the backing file's bytes, or zeros. */
  unallocated: 0,
  /** Stored at `hostOffset`. */
  data: 1,
  /** Reads as zeros. */
  zero: 2,
  /** `compressedBytes` from `hostOffset` inflate to the whole cluster that starts at `clusterStart`. */
  compressed: 3,
  /** The entry makes no sense; `problem` says why. */
  corrupt: 4,
} as const;
export type RunKind = (typeof RunKind)[keyof typeof RunKind];

/** A run of the guest disk that is stored in one way. One object serves many lookups. */
export class Run {
  kind: RunKind = RunKind.unallocated;
  /** Guest bytes, at least 1. */
  length = 0;
  hostOffset: HostOffset = host(0);
  /** There is a cluster for the run, at `hostOffset`, whether its bytes count or not. */
  stored = false;
  /** The bytes at `hostOffset` belong to this disk alone: they may be written in place. */
  owned = false;
  compressedBytes = 0;
  /** Guest offset of the compressed cluster. */
  clusterStart = 0;
  problem = '';
}

export class Mapping {
  readonly #geometry: Geometry;
  readonly #compressed: CompressedLayout;
  /** What `#classify` found. */
  #kind: RunKind = RunKind.unallocated;
  #host = 0;
  #stored = false;
  #owned = false;
  #problem = '';

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
    this.#compressed = compressedLayout(geometry.clusterBits);
  }

  sliceKey(offset: number): number {
    return Math.floor(offset / this.#geometry.sliceCoverage);
  }

  /**
   * Describes the run that starts at guest offset `offset` and has at most `maxLength` bytes.
   * @param placed a run whose bytes do not count has one place, too, or none
   * @returns false when the L2 slice is not cached: fill it under the exclusive lock and ask again
   */
  find(metadata: Metadata, offset: number, maxLength: number, run: Run, placed = false): boolean {
    const { tableCoverage, clusterSize, sliceCoverage, unitSize } = this.#geometry;
    const l1Index = Math.floor(offset / tableCoverage);
    const tableLeft = tableCoverage - (offset % tableCoverage);
    const table = this.#tableOffset(metadata, l1Index);
    if (table === 0) {
      run.kind = RunKind.unallocated;
      run.stored = false;
      run.owned = false;
      run.length = tableLeft;
      for (let next = l1Index + 1; run.length < maxLength; next++) {
        if (this.#tableOffset(metadata, next) !== 0) break;
        run.length += tableCoverage;
      }
      run.length = Math.min(run.length, maxLength);
      return true;
    }
    if (table % clusterSize !== 0 || table > MAX_HOST_OFFSET) {
      run.kind = RunKind.corrupt;
      run.stored = false;
      run.length = Math.min(tableLeft, maxLength);
      const what = table > MAX_HOST_OFFSET ? 'beyond what a file can have' : 'not aligned to clusters';
      run.problem = `L1 entry ${l1Index}: L2 table offset ${hex(table)} is ${what}`;
      return true;
    }

    const slot = metadata.lookup(Math.floor(offset / sliceCoverage));
    if (slot === -1) return false;

    const limit = Math.min(maxLength, sliceCoverage - (offset % sliceCoverage));
    let at = offset - (offset % unitSize);
    const ownsTable = isCopied(metadata.l1[2 * l1Index]!);
    this.#classify(metadata, slot, at);
    const owned = this.#owned;
    run.owned = owned && ownsTable;
    run.kind = this.#kind;
    run.stored = this.#stored;
    run.problem = this.#problem;
    run.hostOffset = host(this.#host + (offset - at));
    let length = unitSize - (offset - at);
    if (run.kind === RunKind.compressed) {
      run.length = Math.min(this.#describeCompressed(metadata, slot, offset, run), limit);
      return true;
    }
    // Most requests end within the unit that they begin in.
    if (length < limit && run.kind !== RunKind.corrupt) {
      const plain = this.#plainUnits(metadata, slot, at, Math.ceil((limit - length) / unitSize));
      at += plain * unitSize;
      length += plain * unitSize;
    }
    while (length < limit && run.kind !== RunKind.corrupt) {
      at += unitSize;
      this.#classify(metadata, slot, at);
      if (this.#kind !== run.kind) break;
      if (run.kind === RunKind.data || placed) {
        if (this.#stored !== run.stored || this.#owned !== owned) break;
        if (run.stored && this.#host !== run.hostOffset + length) break;
      }
      length += unitSize;
    }
    run.length = Math.min(length, limit);
    return true;
  }

  /**
   * How many of the next `limit` entries are what follows the one at guest offset `at`, which was classified last, bit
   * by bit. Tells most of a long run in a fraction of the time that classifying takes.
   */
  #plainUnits(metadata: Metadata, slot: number, at: number, limit: number): number {
    const { extended, clusterSize } = this.#geometry;
    if (extended || (this.#stored && this.#host > MAX_HOST_OFFSET - limit * clusterSize)) return 0;
    const { slots } = metadata;
    const step = this.#stored ? clusterSize : 0;
    let word = this.#entryWord(metadata, slot, at);
    let high = slots[word]!;
    let low = slots[word + 1]!;
    for (let units = 0; units < limit; units++) {
      word += 2;
      low += step;
      if (low >= TWO_32) {
        low -= TWO_32;
        high += 1;
      }
      if (slots[word + 1] !== low || slots[word] !== high) return units;
    }
    return Math.max(limit, 0);
  }

  /** Host offset of an L2 table; 0 for none, also beyond the end of the L1 table. */
  #tableOffset(metadata: Metadata, l1Index: number): number {
    if (l1Index >= metadata.l1Size) return 0;
    return entryOffset(metadata.l1[2 * l1Index]!, metadata.l1[2 * l1Index + 1]!);
  }

  /** Index of the first word of the L2 entry that maps `offset`. */
  #entryWord(metadata: Metadata, slot: number, offset: number): number {
    const { sliceCoverage, clusterSize, entryBytes } = this.#geometry;
    const index = Math.floor((offset % sliceCoverage) / clusterSize);
    return slot * metadata.slotWords + index * (entryBytes / 4);
  }

  #describeCompressed(metadata: Metadata, slot: number, offset: number, run: Run): number {
    const word = this.#entryWord(metadata, slot, offset);
    const high = metadata.slots[word]!;
    const low = metadata.slots[word + 1]!;
    const within = offset % this.#geometry.clusterSize;
    run.hostOffset = host(compressedOffset(high, low, this.#compressed));
    run.compressedBytes = compressedLength(high, low, this.#compressed);
    run.clusterStart = offset - within;
    return this.#geometry.clusterSize - within;
  }

  /** Sets `#kind` and `#host` for the cluster or subcluster that starts at guest offset `at`. */
  #classify(metadata: Metadata, slot: number, at: number): void {
    const { extended, externalData, zeroFlag, clusterSize } = this.#geometry;
    const word = this.#entryWord(metadata, slot, at);
    const high = metadata.slots[word]!;
    const low = metadata.slots[word + 1]!;
    this.#problem = '';
    this.#owned = false;
    this.#stored = false;
    if (isCompressed(high)) {
      const start = compressedOffset(high, low, this.#compressed);
      if (externalData) this.#corrupt(at, 'a compressed cluster in an image with an external data file');
      else if (start > MAX_HOST_OFFSET)
        this.#corrupt(at, `compressed data at ${hex(start)}, beyond what a file can have`);
      else this.#kind = RunKind.compressed;
      return;
    }
    const offset = entryOffset(high, low);
    const within = at % clusterSize;
    const allocated = offset !== 0 || (externalData && isCopied(high));
    this.#owned = allocated && isCopied(high);
    if (extended) {
      const zeros = metadata.slots[word + 2]!;
      const allocs = metadata.slots[word + 3]!;
      this.#classifySubcluster(at, within / this.#geometry.unitSize, allocated, zeros, allocs);
    } else if (isZero(low)) {
      if (zeroFlag) this.#kind = RunKind.zero;
      else this.#corrupt(at, 'a zero cluster in a version 2 image');
    } else {
      this.#kind = allocated ? RunKind.data : RunKind.unallocated;
    }
    if (this.#kind === RunKind.corrupt || !allocated) return;
    this.#stored = true;
    this.#host = offset + within;
    if (offset > MAX_HOST_OFFSET) {
      this.#corrupt(at, `cluster offset ${hex(offset)} is beyond what a file can have`);
    } else if (offset % clusterSize !== 0) {
      this.#corrupt(at, `cluster offset ${hex(offset)} is not aligned to clusters`);
    } else if (externalData && offset !== at - within) {
      this.#corrupt(at, `cluster offset ${hex(offset)} in the data file is not the guest offset`);
    }
  }

  /** Specification: "Extended L2 Entries". A contradiction in any subcluster invalidates the whole entry. */
  #classifySubcluster(at: number, index: number, allocated: boolean, zeros: number, allocs: number): void {
    if ((zeros & allocs) !== 0) {
      this.#corrupt(at, 'a subcluster is marked both allocated and zero');
    } else if (!allocated && allocs !== 0) {
      this.#corrupt(at, 'a subcluster is allocated, but the entry has no cluster');
    } else if ((zeros >>> index) & 1) {
      this.#kind = RunKind.zero;
    } else {
      this.#kind = (allocs >>> index) & 1 ? RunKind.data : RunKind.unallocated;
    }
  }

  #corrupt(at: number, problem: string): void {
    const { clusterSize, tableCoverage } = this.#geometry;
    const index = Math.floor((at % tableCoverage) / clusterSize);
    const table = Math.floor(at / tableCoverage);
    this.#kind = RunKind.corrupt;
    this.#problem = `L2 entry ${index} of table ${table}, guest offset ${hex(at - (at % clusterSize))}: ${problem}`;
  }
}
