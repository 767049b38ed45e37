/** Reads parts of the disk for the digests: zeros that the metadata prove are not read, and what is damaged becomes zeros. */
import { DamagedRanges } from '../damaged-ranges.js';
import type { Disk, Extent } from '../disk.js';
import type { MissingRange } from '../notice.js';
import { type Loss, salvage } from '../salvage.js';

/** Runs that are looked at to tell whether a part is zeros; if there are more, it is read. */
const MAX_STEPS = 4096;

const isHole = ({ data }: Extent): boolean => !data;

export class PartReader {
  readonly #disk: Disk;
  readonly #report: (losses: readonly Loss[]) => void;
  readonly #budget = { steps: 0 };
  #losses: Loss[] = [];
  #missing = new DamagedRanges();
  #whyMissing = '';

  /** @param report told of what a part has lost, once for each part that has lost anything */
  constructor(disk: Disk, report: (losses: readonly Loss[]) => void) {
    this.#disk = disk;
    this.#report = report;
  }

  /** True when the metadata prove it. Where they cannot be had, reading tells why. */
  isZero(offset: number, length: number): boolean {
    this.#budget.steps = MAX_STEPS;
    try {
      return this.#disk.scan(offset, length, isHole, this.#budget);
    } catch {
      return false;
    }
  }

  /** A part that is being read lacks something, which counts as zeros. */
  miss({ offset, length }: MissingRange, problem: string): void {
    // Again and again, where damage beside it is narrowed down.
    this.#missing.add(offset, length, false);
    this.#whyMissing = problem;
  }

  /** Fills the start of `target`. */
  read(target: Buffer, offset: number, length: number): void {
    salvage(this.#disk, target, 0, length, offset, this.#note);
    if (this.#missing.count > 0) {
      for (const range of this.#missing) this.#note({ ...range, problem: this.#whyMissing });
      this.#missing = new DamagedRanges();
    }
    if (this.#losses.length === 0) return;
    this.#report(this.#losses);
    this.#losses = [];
  }

  readonly #note = (loss: Loss): void => {
    const last = this.#losses.at(-1);
    if (last === undefined || last.offset + last.length !== loss.offset || last.coarse !== loss.coarse) {
      this.#losses.push(loss);
      return;
    }
    this.#losses[this.#losses.length - 1] = { ...last, length: last.length + loss.length };
  };
}
