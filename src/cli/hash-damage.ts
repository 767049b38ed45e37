/** What a damaged disk has lost, collected while it is read, for the terminal, for programs and for the error map. */
import { DamagedRanges } from '../damaged-ranges.js';
import type { ErrorMapFile } from '../host/error-map-file.js';
import type { Loss } from '../salvage.js';
import { humanBytes, warn } from './output.js';

/** Ranges that get a line. */
const MAX_LINES = 20;
/** Problems that are remembered, of those that come first: more than get a line, since they come in about their order. */
const MAX_PROBLEMS = 256;
/** Ranges in the result for programs. */
const MAX_LISTED = 1000;

export class HashDamage {
  readonly ranges = new DamagedRanges();
  readonly #problems = new Map<number, string>();
  /** Bytes that count as zeros. */
  bytes = 0;

  readonly add = ({ offset, length, coarse, problem }: Loss): void => {
    this.bytes += length;
    this.ranges.add(offset, length, coarse);
    if (problem !== '' && this.#problems.size < MAX_PROBLEMS) this.#problems.set(offset, problem);
  };

  /** Says on standard error what is missing. */
  tell(image: string): void {
    if (this.bytes === 0) return;
    let lines = 0;
    let left = this.bytes;
    for (const { offset, length } of this.ranges) {
      if (lines++ === MAX_LINES) break;
      left -= length;
      const where = `bytes ${offset}-${offset + length - 1} (${humanBytes(length)})`;
      const problem = this.#problemIn(offset, length);
      warn(`${image}: ${where} cannot be read${problem === undefined ? '' : `: ${problem}`}`);
    }
    const more = this.ranges.count - MAX_LINES;
    if (more > 0) warn(`${image}: and ${more} more ranges, ${Math.max(0, left)} bytes`);
    warn(`${image}: damaged: the digests are of a disk with ${this.bytes} bytes replaced by zeros`);
  }

  /** For `--json`. */
  list(): object {
    const ranges = [];
    for (const { offset, length } of this.ranges) {
      if (ranges.length === MAX_LISTED) break;
      ranges.push({ offset, length, problem: this.#problemIn(offset, length) ?? null });
    }
    return { bytes: this.bytes, count: this.ranges.count, ranges };
  }

  save(file: ErrorMapFile | undefined, tried: number): void {
    file?.write(this.ranges, tried);
  }

  /** Of the first loss in the range. */
  #problemIn(offset: number, length: number): string | undefined {
    const own = this.#problems.get(offset);
    if (own !== undefined) return own;
    let first = Number.POSITIVE_INFINITY;
    for (const at of this.#problems.keys()) {
      if (at >= offset && at < offset + length && at < first) first = at;
    }
    return this.#problems.get(first);
  }
}
