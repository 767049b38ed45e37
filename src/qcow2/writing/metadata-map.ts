/**
 * Which host clusters hold live metadata, so that nothing else is ever written there and none of it is freed, however
 * damaged the refcounts or the mapping are (as QEMU's overlap checks, its `inactive-l2` included). A hash set of cluster
 * numbers in shared memory, negative for metadata that stays as long as the image is open; changes need the exclusive
 * lock of the image.
 */
import { randomBytes } from 'node:crypto';

const EMPTY = 0;
const REMOVED = 0.5;

export interface SharedMetadataMap {
  readonly slots: SharedArrayBuffer;
  /** An odd number that nobody knows in advance, so that no image can be made to collide with it. */
  readonly multiplier: number;
}

/** @param expected clusters that hold metadata now or may come to; at most half of the slots are taken then */
export function allocateMetadataMap(expected: number): SharedMetadataMap {
  const slots = slotsFor(expected);
  return {
    slots: new SharedArrayBuffer(slots * Float64Array.BYTES_PER_ELEMENT),
    multiplier: (randomBytes(4).readUInt32LE() | 1) >>> 0,
  };
}

function slotsFor(expected: number): number {
  return 2 ** Math.ceil(Math.log2(2 * Math.max(1024, expected)));
}

/** Of the same content, with room for `expected` clusters: `shared` itself where that has it. */
export function enlargedMetadataMap(shared: SharedMetadataMap, expected: number): SharedMetadataMap {
  const old = new Float64Array(shared.slots);
  if (slotsFor(expected) <= old.length) return shared;
  const larger = allocateMetadataMap(expected);
  const map = new MetadataMap(larger, 1);
  for (const cluster of old) {
    if (Math.abs(cluster) >= 1) map.add(Math.abs(cluster), 1, cluster < 0);
  }
  return larger;
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
   * @param stays as long as the image is open, and more than one structure may name it: L2 tables of snapshots, bitmaps
   * @returns the host offset of the first of their clusters that held metadata before which does not stay, or undefined
   */
  add(offset: number, length: number, stays = false): number | undefined {
    let present: number | undefined;
    const end = this.#end(offset, length);
    for (let cluster = this.#first(offset); cluster < end; cluster++) {
      const slot = this.#slotOf(cluster);
      // Cluster 0 is the header. A full set protects what it has.
      if (cluster === 0 || this.#slots[slot] === cluster) present ??= cluster * this.#clusterSize;
      else if (this.#slots[slot] === EMPTY) this.#slots[slot] = stays ? -cluster : cluster;
    }
    return present;
  }

  /** The metadata in these host bytes is not used any more, unless it is of the kind that stays. */
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
      const held = cluster === 0 || Math.abs(this.#slots[this.#slotOf(cluster)]!) === cluster;
      if (held) return cluster * this.#clusterSize;
    }
    return undefined;
  }

  #first(offset: number): number {
    return Math.floor(offset / this.#clusterSize);
  }

  #end(offset: number, length: number): number {
    return Math.ceil((offset + length) / this.#clusterSize);
  }

  /** Where the cluster is, or else the empty slot where its search ends. */
  #slotOf(cluster: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    const mixed = Math.imul((cluster ^ (cluster / 2 ** 32)) | 0, this.#multiplier) >>> 0;
    let slot = this.#shift >= 0 ? mixed >>> this.#shift : mixed;
    for (let probes = 0; probes <= mask; probes++, slot = (slot + 1) & mask) {
      const value = slots[slot];
      if (value === cluster || value === EMPTY || value === -cluster) return slot;
    }
    return slot;
  }
}
