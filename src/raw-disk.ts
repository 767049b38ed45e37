/**
 * A raw file, or a part of one, at the end of a backing chain. Its size counts in whole sectors: what a last partial
 * sector lacks reads as zeros, as QEMU reads it. What a file lacks that was cut off reads as zeros, too, with a notice.
 */
import type { Extent, ExtentVisitor, ScanBudget } from './disk.js';
import { notice } from './notice.js';
import { ReadOnlyDisk } from './read-only-disk.js';
import type { Storage } from './storage.js';

const SECTOR_SIZE = 512;

export class RawDisk extends ReadOnlyDisk {
  readonly size: number;
  readonly #storage: Storage;
  readonly #start: number;
  readonly #length: number;

  /**
   * @param start where the disk begins in the file, bytes
   * @param length bytes of the file that belong to the disk, whether they are there or not
   */
  constructor(storage: Storage, start: number, length: number) {
    super();
    this.#storage = storage;
    this.#start = start;
    this.#length = length;
    this.size = wholeSectors(length);
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    const read = this.#storage.read(target, targetOffset, length, this.#start + offset);
    if (read === length) return;
    target.fill(0, targetOffset + read, targetOffset + length);
    const from = wholeSectors(offset + read);
    const missing = Math.min(offset + length, this.#length) - from;
    if (missing <= 0) return;
    const size = this.#storage.size();
    const what = `has ${size} bytes, less than the disk in it; the rest reads as zeros; was it cut off?`;
    notice(`${this.#storage.path}: ${what}`, { offset: from, length: missing });
  }

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      if (budget.steps-- <= 0) return false;
      const extent = this.#extentAt(at, end - at);
      if (!visit(extent)) return false;
      at += extent.length;
    }
    return true;
  }

  storedBytes(): number {
    return this.#storage.allocatedBytes();
  }

  #extentAt(offset: number, maxLength: number): Extent {
    const position = this.#start + offset;
    const hole = this.#storage.nextHole(position);
    const isThere = hole > position;
    const end = isThere ? hole : this.#storage.nextData(position);
    // The file may end within a sector: the whole sector counts as what its beginning is.
    const reached = wholeSectors(end - this.#start);
    const length = Math.min(reached > offset ? reached - offset : maxLength, maxLength);
    // What was cut off must not pass for a hole.
    const data = isThere || (reached <= offset && offset < this.#length);
    return {
      offset,
      length,
      data,
      depth: 0,
      present: true,
      compressed: false,
      shared: false,
      problem: undefined,
      hostOffset: position,
    };
  }

  close(): void {
    this.#storage.close();
  }
}

function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}
