/**
 * Persistent bitmaps that follow every change of the disk, for incremental backups (specification: "Bitmaps"). From the
 * first change until the image is closed the file calls them in use, so that a crash leaves none that lies; what
 * changed meanwhile is kept in shared memory, one bit for each piece of the disk, and merged into the file at the end.
 * Disabled bitmaps follow no change, but grow with the disk, as in QEMU.
 *
 * Closing goes in this order, so that a power cut after any step leaves bitmaps that are right or marked in use:
 *
 *   1. The data clusters that the tables will refer to, and their counts; sync.
 *   2. The tables, in their old clusters, or in new ones where they have become too long; sync.
 *   3. The offsets of tables that moved, in the directory: the old sizes fit the new tables, too; sync.
 *   4. The sizes of all tables, each in one write with the flags that clear the mark; sync.
 *   5. The old clusters of tables that moved are freed.
 */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { type Bitmap, type BitmapFields, encodeBitmapFields, FLAG_IN_USE } from '../format/bitmaps.js';
import { entryOffset } from '../format/entries.js';
import { hex } from '../format/units.js';
import type { ImageState } from '../image-state.js';
import type { Allocator, HostRun } from './allocator.js';

const ENTRY_BYTES = 8;
/** Table entries without an offset: all bits of that part are set. */
const ALL_ONES_LOW = 1;
/** Bytes of bits that one bitmap may take; a larger one is not kept up to date, and stays marked. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Of all bitmaps together: an image may name one many times. */
const MAX_TOTAL_BYTES = 16 * MAX_BYTES;
/** Bytes of bits that a bitmap may grow to in one mount: those of 2 TiB at 64 KiB a bit, or 16 times what it has. */
const MIN_ROOM = 4 * 1024 * 1024;
const ROOM_FACTOR = 16;

/** Plain data: it travels to the threads. */
export interface SharedBitmap {
  readonly name: string;
  readonly flags: number;
  readonly entryOffset: number;
  readonly tableOffset: number;
  readonly tableSize: number;
  /** Guest bytes per bit. */
  readonly granularity: number;
  /** False for a bitmap that is disabled. */
  readonly follows: boolean;
  /** What changed, lowest bit of the first byte first; undefined for a bitmap that is given up. */
  readonly changed: SharedArrayBuffer | undefined;
}

/**
 * The bitmaps of an image that must follow its changes.
 * @param growing whether the disk may grow
 */
export function allocateBitmaps(
  bitmaps: readonly Bitmap[],
  diskSize: number,
  clusterSize: number,
  growing: boolean,
): SharedBitmap[] {
  let left = MAX_TOTAL_BYTES;
  return bitmaps
    .filter(({ auto, inUse }) => !inUse && (auto || growing))
    .map(({ name, auto, flags, entryOffset, tableOffset, tableSize, granularity }) => {
      const bytes = roomFor(diskSize, granularity, clusterSize);
      const max = growing ? Math.min(MAX_BYTES, Math.max(MIN_ROOM, ROOM_FACTOR * bytes)) : bytes;
      const sound = tableOffset % clusterSize === 0 && tableSize === bytes / clusterSize;
      const isKept = sound && bytes <= MAX_BYTES && max <= left;
      if (isKept) left -= max;
      const changed = isKept ? new SharedArrayBuffer(bytes, { maxByteLength: max }) : undefined;
      return { name, flags, entryOffset, tableOffset, tableSize, granularity, follows: auto, changed };
    });
}

/** Bytes of the bits, in whole clusters: whole words for Atomics, too. */
function roomFor(diskSize: number, granularity: number, clusterSize: number): number {
  return Math.ceil(diskSize / granularity / 8 / clusterSize) * clusterSize;
}

/** A table as it is to be. */
interface Merged {
  readonly bitmap: SharedBitmap;
  readonly table: Buffer;
  /** Undefined where it stays in its place. */
  readonly home: HostRun | undefined;
}

export class DirtyBitmaps {
  readonly #bitmaps: readonly SharedBitmap[];
  readonly #image: Storage;
  readonly #clusterSize: number;
  readonly #state: ImageState;
  readonly #allocator: Allocator;
  readonly #commit: () => void;
  readonly #sync: () => void;

  constructor(parts: {
    readonly bitmaps: readonly SharedBitmap[];
    readonly image: Storage;
    readonly clusterSize: number;
    readonly state: ImageState;
    readonly allocator: Allocator;
    readonly commit: () => void;
    /** Of the image. */
    readonly sync: () => void;
  }) {
    this.#bitmaps = parts.bitmaps;
    this.#image = parts.image;
    this.#clusterSize = parts.clusterSize;
    this.#state = parts.state;
    this.#allocator = parts.allocator;
    this.#commit = parts.commit;
    this.#sync = parts.sync;
  }

  /** A part of the disk changes. Any lock will do, or none. */
  mark(offset: number, length: number): void {
    for (const { changed, granularity, follows } of this.#bitmaps) {
      if (follows && changed !== undefined) setBits(changed, offset, length, granularity);
    }
  }

  /** Says in the file that the bitmaps are not to be believed; before the first change. */
  open(): void {
    for (const bitmap of this.#bitmaps) {
      this.#writeFields(bitmap, { tableSize: bitmap.tableSize, flags: bitmap.flags | FLAG_IN_USE });
    }
    if (this.#bitmaps.length > 0) this.#sync();
  }

  /**
   * Makes room for the bits of a larger disk, which are clear; before the disk grows. Needs the exclusive lock.
   * @throws Qcow2fsError `too-large`
   */
  grow(diskSize: number): void {
    for (const { name, changed, granularity } of this.#bitmaps) {
      if (changed === undefined) continue;
      const bytes = roomFor(diskSize, granularity, this.#clusterSize);
      if (bytes > changed.maxByteLength) {
        const advice =
          bytes > MAX_BYTES
            ? 'remove the bitmap: qemu-img bitmap --remove'
            : 'unmount, mount again and repeat';
        const what = `bitmap ${name} cannot track a disk of ${diskSize} bytes`;
        throw new Qcow2fsError('too-large', `${this.#image.path}: ${what}; ${advice}`);
      }
      if (bytes > changed.byteLength) changed.grow(bytes);
    }
  }

  /** Merges what changed into the file, and says that the bitmaps can be believed again. Needs the exclusive lock. */
  close(): void {
    const merged = this.#bitmaps.flatMap((bitmap) => this.#merge(bitmap) ?? []);
    if (merged.length === 0) return;
    // New clusters are counted, and everything is there, before a table names them.
    this.#commit();
    for (const { bitmap, table, home } of merged) {
      this.#image.write(table, 0, table.length, home?.offset ?? bitmap.tableOffset);
    }
    this.#sync();
    const moved = merged.filter(({ home }) => home !== undefined);
    for (const { bitmap, home } of moved) {
      this.#writeFields(bitmap, { tableOffset: BigInt(home!.offset) });
    }
    if (moved.length > 0) this.#sync();
    for (const { bitmap, table } of merged) {
      this.#writeFields(bitmap, { tableSize: table.length / ENTRY_BYTES, flags: bitmap.flags });
    }
    this.#sync();
    for (const { tableOffset, tableSize } of moved.map(({ bitmap }) => bitmap)) {
      this.#allocator.releaseTable(tableOffset, tableSize * ENTRY_BYTES);
    }
    this.#commit();
  }

  /** @returns undefined for a bitmap that is given up, or whose table makes no sense */
  #merge(bitmap: SharedBitmap): Merged | undefined {
    const { granularity, tableOffset, tableSize } = bitmap;
    if (bitmap.changed === undefined) return undefined;
    const changed = Buffer.from(bitmap.changed);
    const size = roomFor(this.#state.diskSize, granularity, this.#clusterSize) / this.#clusterSize;
    const table = Buffer.alloc(size * ENTRY_BYTES);
    const old = tableSize * ENTRY_BYTES;
    if (this.#image.read(table, 0, old, tableOffset) < old) return undefined;
    const unchanged = Buffer.alloc(this.#clusterSize);
    for (let part = 0; part < size; part++) {
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
    const clusters = (bytes: number): number => Math.ceil(bytes / this.#clusterSize);
    const isLonger = clusters(table.length) > clusters(old);
    return {
      bitmap,
      table,
      home: isLonger ? this.#allocator.allocateExactly(clusters(table.length)) : undefined,
    };
  }

  #mergePart(offset: number, bits: Buffer): boolean {
    if (offset % this.#clusterSize !== 0) return false;
    const part = Buffer.alloc(this.#clusterSize);
    this.#image.read(part, 0, part.length, offset);
    for (let i = 0; i < part.length; i++) part[i] = part[i]! | bits[i]!;
    this.#image.write(part, 0, part.length, offset);
    return true;
  }

  #writeFields({ entryOffset, name }: SharedBitmap, fields: BitmapFields): void {
    const { offset, bytes } = encodeBitmapFields(fields);
    try {
      this.#image.write(bytes, 0, bytes.length, entryOffset + offset);
    } catch (error) {
      const what = `the entry of bitmap ${name} at ${hex(entryOffset)} cannot be written`;
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
