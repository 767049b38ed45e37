/**
 * One L2 entry, decoded for those who change it. Images without extended L2 entries count as having one subcluster a
 * cluster, so that nobody else needs to tell the two apart.
 */
import {
  COPIED_HIGH,
  type CompressedLayout,
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
  isCopied,
  isZero,
  ZERO_LOW,
} from '../format/entries.js';
import { TWO_32 } from '../format/units.js';
import type { Geometry } from '../geometry.js';
import { MAX_HOST_OFFSET } from '../mapping.js';

export class ClusterEntry {
  compressed = false;
  /** There is a host cluster. */
  allocated = false;
  /** The host cluster belongs to this disk alone, so it may be written. */
  owned = false;
  /** Host offset of the cluster, or of the compressed data. */
  offset = 0;
  /** Bytes of compressed data. */
  compressedBytes = 0;
  /** Subclusters that have data here, and that read as zeros: masks. All others show the backing file. */
  data = 0;
  zeros = 0;
  /** The entry makes sense; what is wrong with another one, `Mapping` tells. */
  get sound(): boolean {
    const { extended, clusterSize, zeroFlag } = this.#geometry;
    if (this.compressed) return true;
    if (this.offset % clusterSize !== 0 || this.offset > MAX_HOST_OFFSET) return false;
    if (!extended) return zeroFlag || this.zeros === 0;
    return (this.zeros & this.data) === 0 && (this.allocated || this.data === 0);
  }

  /** Of all subclusters. */
  readonly allUnits: number;
  readonly #geometry: Geometry;
  readonly #layout: CompressedLayout;
  #word = 0;

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
    this.#layout = compressedLayout(geometry.clusterBits);
    this.allUnits = geometry.subclusters === 32 ? 0xffff_ffff : 1;
  }

  /** @param slot of the slice that maps guest offset `at` */
  load(slots: Uint32Array, slotWords: number, slot: number, at: number): void {
    const { sliceCoverage, clusterSize, entryBytes, extended, externalData } = this.#geometry;
    const index = Math.floor((at % sliceCoverage) / clusterSize);
    this.#word = slot * slotWords + index * (entryBytes / 4);
    const high = slots[this.#word]!;
    const low = slots[this.#word + 1]!;
    this.compressed = isCompressed(high);
    if (this.compressed) {
      this.offset = compressedOffset(high, low, this.#layout);
      this.compressedBytes = compressedLength(high, low, this.#layout);
      this.allocated = false;
      this.owned = false;
      this.data = this.allUnits;
      this.zeros = 0;
      return;
    }
    this.offset = entryOffset(high, low);
    this.allocated = this.offset !== 0 || (externalData && isCopied(high));
    this.owned = this.allocated && isCopied(high);
    if (extended) {
      this.zeros = slots[this.#word + 2]!;
      this.data = slots[this.#word + 3]!;
    } else {
      this.zeros = isZero(low) ? 1 : 0;
      this.data = this.allocated && this.zeros === 0 ? 1 : 0;
    }
  }

  /** As an entry of a table that does not exist. */
  clear(): void {
    this.drop();
    this.zeros = 0;
  }

  /** The cluster has a home of its own now. */
  move(offset: number): void {
    this.compressed = false;
    this.allocated = true;
    this.owned = true;
    this.offset = offset;
  }

  /** The cluster has no home any more. */
  drop(): void {
    this.compressed = false;
    this.allocated = false;
    this.owned = false;
    this.offset = 0;
    this.data = 0;
  }

  /** Writes the entry back to where it was loaded from. */
  store(slots: Uint32Array): void {
    const copied = this.owned ? COPIED_HIGH : 0;
    const zero = !this.#geometry.extended && this.zeros !== 0 ? ZERO_LOW : 0;
    slots[this.#word] = (Math.floor(this.offset / TWO_32) | copied) >>> 0;
    slots[this.#word + 1] = (this.offset % TWO_32) + zero;
    if (!this.#geometry.extended) return;
    slots[this.#word + 2] = this.zeros;
    slots[this.#word + 3] = this.data;
  }
}

/** The mask of the subclusters from `first` to `last`, both included. */
export function unitMask(first: number, last: number): number {
  const upTo = last === 31 ? 0xffff_ffff : 2 ** (last + 1) - 1;
  return (upTo & ~(2 ** first - 1)) >>> 0;
}
