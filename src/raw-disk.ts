/**
 * A raw file at the end of a backing chain. Its size counts in whole sectors: what a last partial sector lacks reads
 * as zeros, as QEMU reads it.
 */
import type { Extent, ExtentVisitor, ScanBudget } from './disk.js';
import { ReadOnlyDisk } from './read-only-disk.js';
import type { Storage } from './storage.js';

const SECTOR_SIZE = 512;

export class RawDisk extends ReadOnlyDisk {
  readonly size: number;
  readonly #storage: Storage;
  readonly #start: number;

  /**
   * @param start where the disk begins in the file, bytes
   * @param length bytes of the file that belong to the disk
   */
  constructor(storage: Storage, start: number, length: number) {
    super();
    this.#storage = storage;
    this.#start = start;
    this.size = Math.ceil(length / SECTOR_SIZE) * SECTOR_SIZE;
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    const read = this.#storage.read(target, targetOffset, length, this.#start + offset);
    if (read < length) target.fill(0, targetOffset + read, targetOffset + length);
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
    const data = hole > position;
    const end = data ? hole : this.#storage.nextData(position);
    // The file may end within a sector: the whole sector counts as what its beginning is.
    const reached = Math.ceil((end - this.#start) / SECTOR_SIZE) * SECTOR_SIZE;
    const length = Math.min(reached > offset ? reached - offset : maxLength, maxLength);
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
