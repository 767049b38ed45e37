/** A read-only disk of which somebody wants to know what cannot be read: exactly that, however much was asked for at once. */
import { DamagedRanges } from './damaged-ranges.js';
import type { Disk, ExtentVisitor, ScanBudget } from './disk.js';
import type { MissingRange } from './notice.js';
import { type Loss, salvage } from './salvage.js';

/** Reads that failed and were looked at: who repeats them learns nothing new. */
const MAX_KNOWN = 4096;

export type LossesListener = (losses: readonly Loss[]) => void;

export class WatchedDisk implements Disk {
  readonly readOnly = true;
  readonly growable = false;
  readonly #disk: Disk;
  readonly #onLosses: LossesListener;
  readonly #lost = new DamagedRanges();
  readonly #known = new Set<string>();
  #scratch = Buffer.alloc(0);

  /** @param onLosses told of what was not lost before, after the read that failed */
  constructor(disk: Disk, onLosses: LossesListener) {
    this.#disk = disk;
    this.#onLosses = onLosses;
  }

  get size(): number {
    return this.#disk.size;
  }

  get canReadAhead(): boolean {
    return this.#disk.canReadAhead;
  }

  readAhead(): void {
    this.#disk.readAhead();
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    try {
      this.#disk.read(target, targetOffset, length, offset);
    } catch (error) {
      this.#examine(offset, length);
      throw error;
    }
  }

  /** What is missing reads as zeros. */
  miss({ offset, length }: MissingRange, problem: string): void {
    if (this.#lost.add(offset, length, false)) this.#onLosses([{ offset, length, coarse: false, problem }]);
  }

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    return this.#disk.scan(offset, length, visit, budget);
  }

  storedBytes(): number {
    return this.#disk.storedBytes();
  }

  write(source: Buffer, sourceOffset: number, length: number, offset: number): void {
    this.#disk.write(source, sourceOffset, length, offset);
  }

  zero(offset: number, length: number): void {
    this.#disk.zero(offset, length);
  }

  discard(offset: number, length: number): void {
    this.#disk.discard(offset, length);
  }

  resize(size: number): void {
    this.#disk.resize(size);
  }

  undoGrowth(from: number, to: number): void {
    this.#disk.undoGrowth(from, to);
  }

  flush(): void {
    this.#disk.flush();
  }

  close(): void {
    this.#disk.close();
  }

  #examine(offset: number, length: number): void {
    const key = `${offset} ${length}`;
    if (this.#known.has(key)) return;
    if (this.#known.size === MAX_KNOWN) this.#known.clear();
    this.#known.add(key);
    if (this.#scratch.length < length) this.#scratch = Buffer.alloc(length);
    const losses: Loss[] = [];
    try {
      salvage(this.#disk, this.#scratch, 0, length, offset, (loss) => {
        if (this.#lost.add(loss.offset, loss.length, loss.coarse)) losses.push(loss);
      });
    } catch {
      // No damage: the read itself tells what failed.
    }
    this.#scratch.fill(0, 0, length);
    if (losses.length > 0) this.#onLosses(losses);
  }
}
