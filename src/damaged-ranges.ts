/** Which parts of a disk cannot be read: ranges in order, neighbours merged, in bounded memory. */

/** Ranges that are kept apart; beyond that the nearest ones are taken for one, which is coarse then. */
export const MAX_RANGES = 65_536;

export interface DamagedRange {
  readonly offset: number;
  readonly length: number;
  /** Some of it can be read, perhaps: not everything was tried, or there were too many ranges. */
  readonly coarse: boolean;
}

export class DamagedRanges {
  readonly #max: number;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #coarse: boolean[] = [];

  constructor(max = MAX_RANGES) {
    this.#max = max;
  }

  get count(): number {
    return this.#starts.length;
  }

  *[Symbol.iterator](): Generator<DamagedRange> {
    for (let i = 0; i < this.count; i++) {
      const offset = this.#starts[i]!;
      yield { offset, length: this.#ends[i]! - offset, coarse: this.#coarse[i]! };
    }
  }

  /**
   * In any order.
   * @returns false when nothing is new
   */
  add(offset: number, length: number, coarse: boolean): boolean {
    const end = offset + length;
    const first = this.#firstEndingAt(offset);
    if (this.#covers(first, offset, end, coarse)) return false;
    let next = first;
    while (next < this.count && this.#starts[next]! <= end) next++;
    const touched = next - first;
    const start = touched > 0 ? Math.min(offset, this.#starts[first]!) : offset;
    const last = touched > 0 ? Math.max(end, this.#ends[next - 1]!) : end;
    const isCoarse = coarse || this.#coarse.slice(first, next).includes(true);
    this.#starts.splice(first, touched, start);
    this.#ends.splice(first, touched, last);
    this.#coarse.splice(first, touched, isCoarse);
    if (this.count > this.#max) this.#mergeAt(first);
    return true;
  }

  /** Index of the first range that ends at `offset` or behind it. */
  #firstEndingAt(offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #covers(index: number, offset: number, end: number, coarse: boolean): boolean {
    if (index >= this.count) return false;
    const known = this.#starts[index]! <= offset && this.#ends[index]! >= end;
    return known && (this.#coarse[index]! || !coarse);
  }

  /** Takes range `index` and its nearest neighbour for one. */
  #mergeAt(index: number): void {
    const before = index > 0 ? this.#starts[index]! - this.#ends[index - 1]! : Number.POSITIVE_INFINITY;
    const behind = index + 1 < this.count ? this.#starts[index + 1]! - this.#ends[index]! : before;
    const first = before <= behind ? index - 1 : index;
    this.#ends[first] = this.#ends[first + 1]!;
    this.#coarse[first] = true;
    this.#starts.splice(first + 1, 1);
    this.#ends.splice(first + 1, 1);
    this.#coarse.splice(first + 1, 1);
  }
}
