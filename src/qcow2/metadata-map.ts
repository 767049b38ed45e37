/**
 * Which host clusters hold live metadata, so that no write of data ever lands there, however damaged the refcounts or
 * the mapping are (as QEMU's overlap checks). A filter in shared memory answers "none" at once for nearly every
 * cluster; where it does not, the tables themselves are asked.
 */
import type { Geometry } from './geometry.js';
import type { MetadataCache } from './metadata.js';
import type { Refcounts } from './refcounts.js';

/** Bits of the filter; a power of 2. */
const FILTER_BITS = 2 ** 20;

/** Structures that stay where they are while the image is open. */
export interface MetadataRegion {
  readonly name: string;
  /** Host bytes. */
  readonly offset: number;
  readonly length: number;
}

export function allocateFilter(): SharedArrayBuffer {
  return new SharedArrayBuffer(FILTER_BITS / 8);
}

export class MetadataMap {
  readonly #filter: Uint8Array;
  readonly #regions: readonly MetadataRegion[];
  readonly #metadata: MetadataCache;
  readonly #refcounts: Refcounts;
  readonly #clusterSize: number;

  constructor(
    filter: SharedArrayBuffer,
    regions: readonly MetadataRegion[],
    metadata: MetadataCache,
    refcounts: Refcounts,
    geometry: Geometry,
  ) {
    this.#filter = new Uint8Array(filter);
    this.#regions = regions;
    this.#metadata = metadata;
    this.#refcounts = refcounts;
    this.#clusterSize = geometry.clusterSize;
  }

  /** Fills the filter; once, with the exclusive lock, before anything is written. */
  build(): void {
    const { state } = this.#metadata;
    for (const { offset, length } of this.#allRegions()) this.add(offset, length);
    for (let block = 0; block < state.tableSize; block++) this.#addTable(this.#blockOffset(block));
    for (let index = 0; index < state.l1Size; index++) this.#addTable(this.#metadata.tableOffset(index));
  }

  /** Remembers that metadata lies in these host bytes; called with the exclusive lock. */
  add(offset: number, length: number): void {
    const end = Math.ceil((offset + length) / this.#clusterSize);
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) {
      const bit = cluster % FILTER_BITS;
      this.#filter[bit >>> 3] = this.#filter[bit >>> 3]! | (1 << (bit & 7));
    }
  }

  /**
   * The name of the metadata that lies in the clusters of these host bytes, or undefined.
   * @param offset host offset
   */
  find(offset: number, length: number): string | undefined {
    const end = Math.ceil((offset + length) / this.#clusterSize);
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) {
      const bit = cluster % FILTER_BITS;
      if (((this.#filter[bit >>> 3]! >>> (bit & 7)) & 1) === 0) continue;
      const found = this.#lookUp(cluster * this.#clusterSize);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #lookUp(start: number): string | undefined {
    const end = start + this.#clusterSize;
    for (const { name, offset, length } of this.#allRegions()) {
      if (offset < end && offset + length > start) return name;
    }
    const { state } = this.#metadata;
    for (let index = 0; index < state.l1Size; index++) {
      if (this.#metadata.tableOffset(index) === start) return `L2 table ${index}`;
    }
    for (let block = 0; block < state.tableSize; block++) {
      if (this.#blockOffset(block) === start) return `refcount block ${block}`;
    }
    return undefined;
  }

  #allRegions(): MetadataRegion[] {
    const { l1Offset, l1Size, tableOffset, tableSize } = this.#metadata.state;
    return [
      { name: 'the header', offset: 0, length: this.#clusterSize },
      { name: 'the active L1 table', offset: l1Offset, length: l1Size * 8 },
      { name: 'the refcount table', offset: tableOffset, length: tableSize * 8 },
      ...this.#regions,
    ];
  }

  /** A damaged entry is no place where metadata lies. */
  #blockOffset(block: number): number {
    try {
      return this.#refcounts.blockOffset(block);
    } catch {
      return 0;
    }
  }

  #addTable(offset: number): void {
    if (offset !== 0) this.add(offset, this.#clusterSize);
  }
}
