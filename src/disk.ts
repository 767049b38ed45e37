/**
 * What everything above the engine sees: one raw disk. FUSE, the command line and the tests know nothing else.
 *
 * All calls are synchronous and may be made from the thread that owns the object. Offsets and lengths are bytes
 * of the guest disk and need no alignment. Every failure is a `Qcow2fsError`.
 */

/** A run of the guest disk that is stored in one way. */
export interface Extent {
  /** First byte, in bytes of the guest disk. */
  readonly offset: number;
  /** Bytes; at least 1. */
  readonly length: number;
  /** False where the metadata alone proves that the run reads as zeros. */
  readonly data: boolean;
  /** The layer that holds the run: 0 is the image itself, 1 its backing file, and so on. */
  readonly depth: number;
  /** The layer tells what the run is, if only that it is zeros; false where the last layer that could says nothing. */
  readonly present: boolean;
  /** True for compressed clusters. */
  readonly compressed: boolean;
  /** Something else refers to the same clusters, an internal snapshot most often. */
  readonly shared: boolean;
  /** Why reading the run fails, where the metadata alone tell. */
  readonly problem: string | undefined;
  /** Where the run has its place in its layer's file, in clear; zeros may have one, too. */
  readonly hostOffset: number | undefined;
}

/** Bounds a scan: what an image makes of its metadata must not keep anybody waiting. */
export interface ScanBudget {
  /** Runs of any layer that may still be looked at. */
  steps: number;
}

/** Told of each extent in order; returning false ends the scan. */
export type ExtentVisitor = (extent: Extent) => boolean;

export interface Disk {
  /** Bytes; a multiple of 512. */
  readonly size: number;
  /** True when `write`, `zero`, `discard` and `resize` fail with `read-only`. */
  readonly readOnly: boolean;
  /** True when `resize` may make the disk larger. */
  readonly growable: boolean;

  /** Fills `target[targetOffset, targetOffset + length)` from `offset`; the range must lie inside the disk. */
  read(target: Buffer, targetOffset: number, length: number, offset: number): void;
  /** True when `readAhead` has something to do. */
  readonly canReadAhead: boolean;
  /** Does a bit of the work of the reads to come, for a thread that has nothing else to do. Fails for none of them. */
  readAhead(): void;
  /** Writes `source[sourceOffset, sourceOffset + length)` at `offset`; the range must lie inside the disk. */
  write(source: Buffer, sourceOffset: number, length: number, offset: number): void;
  /** Makes the range read as zeros. */
  zero(offset: number, length: number): void;
  /** Makes the range read as zeros and gives its space back to the host where whole clusters allow. */
  discard(offset: number, length: number): void;

  /**
   * Visits the extents of `[offset, offset + length)`, which together cover exactly that range.
   * @returns false when the visitor ended the scan or the budget was spent
   */
  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean;
  /** Bytes of the host that hold the disk, its backing files included. */
  storedBytes(): number;

  /** Grows the disk to `size` bytes, rounded up to whole sectors. */
  resize(size: number): void;
  /** Makes a disk that has grown to `from` bytes as large as before, unless somebody has relied on it since. */
  undoGrowth(from: number, to: number): void;
  /** Returns when everything written before is on stable storage. Once it failed to get there, every flush fails. */
  flush(): void;
  close(): void;
}

/** Counts the bytes that hold data, as `scan` tells, a bit at a time. */
export class AllocationCount {
  /** So far. */
  bytes = 0;
  readonly #disk: Disk;
  #at = 0;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /**
   * @param steps runs that may be looked at
   * @returns true when the whole disk is counted
   */
  advance(steps: number): boolean {
    const count = ({ data, offset, length }: Extent): boolean => {
      if (data) this.bytes += length;
      this.#at = offset + length;
      return true;
    };
    return this.#disk.scan(this.#at, this.#disk.size - this.#at, count, { steps });
  }
}

/** What a disk probably holds whose metadata is too fragmented to count: bytes of its host. */
export function estimateAllocated(disk: Disk): number {
  return Math.min(disk.size, disk.storedBytes());
}
