/** A part of another disk as a disk of its own. */
import type { Disk, ExtentVisitor, ScanBudget } from './disk.js';
import { ReadOnlyDisk } from './read-only-disk.js';

export class PartDisk extends ReadOnlyDisk {
  readonly size: number;
  readonly #disk: Disk;
  readonly #start: number;

  /**
   * @param start where it begins in the other disk, bytes
   * @param size bytes
   */
  constructor(disk: Disk, start: number, size: number) {
    super();
    this.#disk = disk;
    this.#start = start;
    this.size = size;
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    this.#disk.read(target, targetOffset, length, this.#start + offset);
  }

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const moved: ExtentVisitor = (extent) => visit({ ...extent, offset: extent.offset - this.#start });
    return this.#disk.scan(this.#start + offset, length, moved, budget);
  }

  storedBytes(): number {
    return this.#disk.storedBytes();
  }

  close(): void {
    this.#disk.close();
  }
}
