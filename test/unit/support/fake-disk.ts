import type { Extent } from '../../../src/disk.js';
import { ReadOnlyDisk } from '../../../src/read-only-disk.js';

/** Byte `n` of the disk is `n % 251`; data and holes alternate as told. */
export class FakeDisk extends ReadOnlyDisk {
  readonly size: number;
  /** Lengths: data, hole, data, and so on. */
  readonly #runs: readonly number[];
  /** Thrown by everything that reads. */
  failure: Error | undefined;

  constructor(runs: readonly number[]) {
    super();
    this.#runs = runs;
    this.size = runs.reduce((sum, length) => sum + length, 0);
  }

  static byteAt(offset: number): number {
    return offset % 251;
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    if (this.failure) throw this.failure;
    if (offset < 0 || offset + length > this.size) throw new Error('a read outside the disk');
    for (let i = 0; i < length; i++) target[targetOffset + i] = FakeDisk.byteAt(offset + i);
  }

  extentAt(offset: number): Extent {
    if (this.failure) throw this.failure;
    let end = 0;
    const index = this.#runs.findIndex((length) => {
      end += length;
      return offset < end;
    });
    if (index === -1) throw new Error('an extent outside the disk');
    const data = index % 2 === 0;
    return { offset, length: end - offset, data, depth: 0, compressed: false, hostOffset: undefined };
  }

  close(): void {}
}
