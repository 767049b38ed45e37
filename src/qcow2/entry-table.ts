/**
 * The L1 table or the refcount table of an image: 64-bit entries in shared memory as pairs of u32, with a mark for
 * each sector that differs from the file. Changes need the exclusive lock of the image.
 */
import type { Storage } from '../storage.js';
import { SECTOR_SIZE, swapWords, TWO_32 } from './format/units.js';

const ENTRY_BYTES = 8;
const ENTRIES_PER_SECTOR = SECTOR_SIZE / ENTRY_BYTES;

/** What another thread needs to use the same table. */
export interface SharedEntryTable {
  readonly entries: SharedArrayBuffer;
  readonly dirty: SharedArrayBuffer;
}

/** @param capacity entries that the table may grow to */
export function allocateEntryTable(capacity: number): SharedEntryTable {
  return {
    entries: new SharedArrayBuffer(capacity * ENTRY_BYTES),
    dirty: new SharedArrayBuffer(Math.ceil(capacity / ENTRIES_PER_SECTOR)),
  };
}

export class EntryTable {
  /** Pairs of u32: high and low half of each entry. */
  readonly words: Uint32Array;
  readonly #dirty: Uint8Array;
  readonly #sector = Buffer.alloc(SECTOR_SIZE);

  constructor(shared: SharedEntryTable) {
    this.words = new Uint32Array(shared.entries);
    this.#dirty = new Uint8Array(shared.dirty);
  }

  /** Entries that there is room for. */
  get capacity(): number {
    return this.words.length / 2;
  }

  set(index: number, high: number, low: number): void {
    this.words[2 * index] = high;
    this.words[2 * index + 1] = low;
    this.#dirty[Math.floor(index / ENTRIES_PER_SECTOR)] = 1;
  }

  /** An entry that is an offset and nothing else. */
  setOffset(index: number, offset: number): void {
    this.set(index, Math.floor(offset / TWO_32), offset % TWO_32);
  }

  get isDirty(): boolean {
    return this.#dirty.indexOf(1) !== -1;
  }

  /**
   * Writes the sectors that differ from the file; the marks stay until `markClean`.
   * @param offset host offset of the table
   * @param size entries that the table has in the file
   */
  writeDirty(storage: Storage, offset: number, size: number): void {
    for (let sector = this.#dirty.indexOf(1); sector !== -1; sector = this.#dirty.indexOf(1, sector + 1)) {
      const first = sector * ENTRIES_PER_SECTOR;
      const bytes = Math.min(ENTRIES_PER_SECTOR, size - first) * ENTRY_BYTES;
      if (bytes <= 0) return;
      this.encode(first, bytes / ENTRY_BYTES, this.#sector);
      storage.write(this.#sector, 0, bytes, offset + sector * SECTOR_SIZE);
    }
  }

  markClean(): void {
    this.#dirty.fill(0);
  }

  /** Entries as the file has them, to the start of `target`. */
  encode(first: number, count: number, target: Buffer): void {
    const bytes = count * ENTRY_BYTES;
    target.set(new Uint8Array(this.words.buffer, first * ENTRY_BYTES, bytes));
    swapWords(target.subarray(0, bytes));
  }
}
