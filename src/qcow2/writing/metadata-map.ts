/**
 * Which host clusters hold live metadata, so that nothing else is ever written there and none of it is freed, however
 * damaged the refcounts or the mapping are (as QEMU's overlap checks). A hash set of cluster numbers in shared memory;
 * changes need the exclusive lock of the image.
 */
import { randomBytes } from 'node:crypto';

const EMPTY = 0;
const REMOVED = -1;

export interface SharedMetadataMap {
  readonly slots: SharedArrayBuffer;
  /** An odd number that nobody knows in advance, so that no image can be made to collide with it. */
  readonly multiplier: number;
}

/** @param expected clusters that hold metadata now or may come to */
export function allocateMetadataMap(expected: number): SharedMetadataMap {
  const slots = 2 ** Math.ceil(Math.log2(2 * Math.max(1024, expected)));
  return {
    slots: new SharedArrayBuffer(slots * Float64Array.BYTES_PER_ELEMENT),
    multiplier: (randomBytes(4).readUInt32LE() | 1) >>> 0,
  };
}

export class MetadataMap {
  readonly #slots: Float64Array;
  readonly #multiplier: number;
  readonly #clusterSize: number;
  readonly #shift: number;

  constructor(shared: SharedMetadataMap, clusterSize: number) {
    this.#slots = new Float64Array(shared.slots);
    this.#multiplier = shared.multiplier;
    this.#clusterSize = clusterSize;
    this.#shift = 32 - Math.log2(this.#slots.length);
  }

  /**
   * Metadata lies in these host bytes from now on.
   * @returns the host offset of the first of their clusters that held metadata before, or undefined
   */
  add(offset: number, length: number): number | undefined {
    let present: number | undefined;
    const end = this.#end(offset, length);
    for (let cluster = this.#first(offset); cluster < end; cluster++) {
      if (!this.#insert(cluster)) present ??= cluster * this.#clusterSize;
    }
    return present;
  }

  /** The metadata in these host bytes is not used any more. */
  remove(offset: number, length: number): void {
    const end = this.#end(offset, length);
    for (let cluster = this.#first(offset); cluster < end; cluster++) {
      const slot = this.#slotOf(cluster);
      if (this.#slots[slot] === cluster) this.#slots[slot] = REMOVED;
    }
  }

  /** The host offset of the first cluster of these host bytes that holds metadata, or undefined. */
  find(offset: number, length: number): number | undefined {
    const end = this.#end(offset, length);
    for (let cluster = this.#first(offset); cluster < end; cluster++) {
      // Cluster 0 is the header.
      if (cluster === 0 || this.#slots[this.#slotOf(cluster)] === cluster) return cluster * this.#clusterSize;
    }
    return undefined;
  }

  #first(offset: number): number {
    return Math.floor(offset / this.#clusterSize);
  }

  #end(offset: number, length: number): number {
    return Math.ceil((offset + length) / this.#clusterSize);
  }

  /** @returns false when it was there */
  #insert(cluster: number): boolean {
    if (cluster === 0) return false;
    const slot = this.#slotOf(cluster);
    if (this.#slots[slot] === cluster) return false;
    // A full set protects what it has.
    if (this.#slots[slot] === EMPTY) this.#slots[slot] = cluster;
    return true;
  }

  /** Where the cluster is, or else the empty slot where its search ends. */
  #slotOf(cluster: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    const mixed = Math.imul((cluster ^ (cluster / 2 ** 32)) | 0, this.#multiplier) >>> 0;
    let slot = this.#shift >= 0 ? mixed >>> this.#shift : mixed;
    for (let probes = 0; probes <= mask; probes++, slot = (slot + 1) & mask) {
      if (slots[slot] === cluster || slots[slot] === EMPTY) return slot;
    }
    return slot;
  }
}
