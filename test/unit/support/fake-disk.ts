import type { ExtentVisitor, ScanBudget } from '../../../src/disk.js';
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

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    if (this.failure) throw this.failure;
    const end = offset + length;
    let at = 0;
    for (const [index, run] of this.#runs.entries()) {
      const from = Math.max(at, offset);
      at += run;
      const to = Math.min(at, end);
      if (from >= to) continue;
      if (budget.steps-- <= 0) return false;
      const data = index % 2 === 0;
      const extent = {
        offset: from,
        length: to - from,
        data,
        depth: 0,
        present: true,
        compressed: false,
        shared: false,
        problem: undefined,
        hostOffset: undefined,
      };
      if (!visit(extent)) return false;
    }
    return true;
  }

  storedBytes(): number {
    return 12_345;
  }

  close(): void {}
}
