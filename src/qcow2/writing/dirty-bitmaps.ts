/**
 * Persistent bitmaps that follow every change of the disk, for incremental backups (specification: "Bitmaps"). From the
 * first change until the image is closed the file calls them in use, so that a crash leaves none that lies; what
 * changed meanwhile is kept in shared memory, one bit for each piece of the disk, and merged into the file at the end.
 */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { type Bitmap, FLAG_IN_USE } from '../format/bitmaps.js';
import { entryOffset } from '../format/entries.js';
import { hex } from '../format/units.js';
import type { Allocator } from './allocator.js';
import type { MetadataMap } from './metadata-map.js';

const ENTRY_BYTES = 8;
/** Table entries without an offset: all bits of that part are set. */
const ALL_ONES_LOW = 1;
/** Bytes of bits that one bitmap may take; a larger one is not kept up to date, and stays marked. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Plain data: it travels to the threads. */
export interface SharedBitmap {
  readonly name: string;
  readonly flags: number;
  readonly flagsOffset: number;
  readonly tableOffset: number;
  readonly tableSize: number;
  /** Guest bytes per bit. */
  readonly granularity: number;
  /** What changed, lowest bit of the first byte first; undefined for a bitmap that is given up. */
  readonly changed: SharedArrayBuffer | undefined;
}

/** The bitmaps of an image that must follow its changes. */
export function allocateBitmaps(
  bitmaps: readonly Bitmap[],
  diskSize: number,
  clusterSize: number,
): SharedBitmap[] {
  return bitmaps
    .filter(({ auto, inUse }) => auto && !inUse)
    .map(({ name, flags, flagsOffset, tableOffset, tableSize, granularity }) => {
      const bytes = Math.ceil(diskSize / granularity / 8);
      const sound = tableOffset % clusterSize === 0 && tableSize === Math.ceil(bytes / clusterSize);
      // Whole words for Atomics, whole clusters for the file.
      const room = Math.ceil(bytes / clusterSize) * clusterSize;
      const changed = sound && room <= MAX_BYTES ? new SharedArrayBuffer(room) : undefined;
      return { name, flags, flagsOffset, tableOffset, tableSize, granularity, changed };
    });
}

export class DirtyBitmaps {
  readonly #bitmaps: readonly SharedBitmap[];
  readonly #image: Storage;
  readonly #clusterSize: number;
  readonly #allocator: Allocator;
  readonly #map: MetadataMap;
  readonly #commit: () => void;
  readonly #sync: () => void;

  constructor(parts: {
    readonly bitmaps: readonly SharedBitmap[];
    readonly image: Storage;
    readonly clusterSize: number;
    readonly allocator: Allocator;
    readonly map: MetadataMap;
    readonly commit: () => void;
    /** Of the image. */
    readonly sync: () => void;
  }) {
    this.#bitmaps = parts.bitmaps;
    this.#image = parts.image;
    this.#clusterSize = parts.clusterSize;
    this.#allocator = parts.allocator;
    this.#map = parts.map;
    this.#commit = parts.commit;
    this.#sync = parts.sync;
  }

  /** A part of the disk changes. Any lock will do, or none. */
  mark(offset: number, length: number): void {
    for (const { changed, granularity } of this.#bitmaps) {
      if (changed !== undefined) setBits(changed, offset, length, granularity);
    }
  }

  /** Says in the file that the bitmaps are not to be believed; before the first change. */
  open(): void {
    for (const bitmap of this.#bitmaps) this.#writeFlags(bitmap, bitmap.flags | FLAG_IN_USE);
    if (this.#bitmaps.length > 0) this.#sync();
  }

  /** Merges what changed into the file, and says that the bitmaps can be believed again. Needs the exclusive lock. */
  close(): void {
    const tables = this.#bitmaps.flatMap((bitmap) => {
      const table = bitmap.changed && this.#merge(bitmap, Buffer.from(bitmap.changed));
      return table === undefined ? [] : [{ bitmap, table }];
    });
    if (tables.length === 0) return;
    // New clusters are counted, and everything is there, before a table names them.
    this.#commit();
    for (const { bitmap, table } of tables) this.#image.write(table, 0, table.length, bitmap.tableOffset);
    this.#sync();
    for (const { bitmap } of tables) this.#writeFlags(bitmap, bitmap.flags);
    this.#sync();
  }

  /** @returns the bitmap's table as it is to be; undefined when it makes no sense, and the bitmap is given up */
  #merge({ tableOffset, tableSize }: SharedBitmap, changed: Buffer): Buffer | undefined {
    const table = Buffer.alloc(tableSize * ENTRY_BYTES);
    if (this.#map.find(tableOffset, table.length) !== undefined) return undefined;
    if (this.#image.read(table, 0, table.length, tableOffset) < table.length) return undefined;
    const unchanged = Buffer.alloc(this.#clusterSize);
    for (let part = 0; part < tableSize; part++) {
      const bits = changed.subarray(part * this.#clusterSize, (part + 1) * this.#clusterSize);
      if (bits.equals(unchanged)) continue;
      const low = table.readUInt32BE(part * ENTRY_BYTES + 4);
      const offset = entryOffset(table.readUInt32BE(part * ENTRY_BYTES), low);
      if (offset !== 0) {
        if (!this.#mergePart(offset, bits)) return undefined;
      } else if ((low & ALL_ONES_LOW) === 0) {
        const home = this.#allocator.allocateTable(Buffer.from(bits));
        table.writeBigUInt64BE(BigInt(home), part * ENTRY_BYTES);
      }
    }
    return table;
  }

  #mergePart(offset: number, bits: Buffer): boolean {
    if (offset % this.#clusterSize !== 0) return false;
    if (this.#map.find(offset, this.#clusterSize) !== undefined) return false;
    const part = Buffer.alloc(this.#clusterSize);
    this.#image.read(part, 0, part.length, offset);
    for (let i = 0; i < part.length; i++) part[i] = part[i]! | bits[i]!;
    this.#image.write(part, 0, part.length, offset);
    return true;
  }

  #writeFlags({ flagsOffset, name }: SharedBitmap, flags: number): void {
    const word = Buffer.alloc(4);
    word.writeUInt32BE(flags);
    try {
      this.#image.write(word, 0, word.length, flagsOffset);
    } catch (error) {
      const what = `the flags of bitmap ${name} at ${hex(flagsOffset)} cannot be written`;
      throw new Qcow2fsError('host-io', `${this.#image.path}: ${what}`, { cause: (error as Error).cause });
    }
  }
}

/** Bits from `offset / granularity` on; threads set bits of one word at the same time. */
function setBits(memory: SharedArrayBuffer, offset: number, length: number, granularity: number): void {
  const words = new Int32Array(memory);
  const last = Math.floor((offset + length - 1) / granularity);
  for (let bit = Math.floor(offset / granularity); bit <= last; ) {
    const word = Math.floor(bit / 32);
    const from = bit % 32;
    const to = Math.min(31, from + last - bit);
    Atomics.or(words, word, ((2 ** (to + 1) - 1) & ~(2 ** from - 1)) | 0);
    bit += to - from + 1;
  }
}
