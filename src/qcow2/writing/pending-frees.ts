/**
 * Host clusters that the disk no longer uses, but that the file may still refer to: their counts are lowered, and
 * their space is given back, when the new metadata is on disk. In shared memory, under the exclusive lock. The
 * allocator's: nothing else adds to these lists or takes from them.
 */

/** Runs of each kind that are kept at most. */
const CAPACITY = 16_384;
/** An operation on one L2 slice may add as many as half of them. */
const HIGH_WATER = CAPACITY / 2;

export interface SharedPendingFrees {
  readonly clusters: SharedArrayBuffer;
  readonly punches: SharedArrayBuffer;
}

export function allocatePendingFrees(): SharedPendingFrees {
  const bytes = (1 + 2 * CAPACITY) * Float64Array.BYTES_PER_ELEMENT;
  return { clusters: new SharedArrayBuffer(bytes), punches: new SharedArrayBuffer(bytes) };
}

/** A list of runs: the count first, then pairs of start and length. */
class RunList {
  readonly #words: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Float64Array(memory);
  }

  get count(): number {
    return this.#words[0]!;
  }

  add(start: number, length: number): void {
    const last = this.count - 1;
    if (last >= 0 && this.start(last) + this.length(last) === start) {
      this.#words[2 + 2 * last] = this.length(last) + length;
      return;
    }
    this.#words[1 + 2 * (last + 1)] = start;
    this.#words[2 + 2 * (last + 1)] = length;
    this.#words[0] = last + 2;
  }

  start(index: number): number {
    return this.#words[1 + 2 * index]!;
  }

  length(index: number): number {
    return this.#words[2 + 2 * index]!;
  }

  /** Forgets the first number of the last run. */
  shiftLast(): void {
    const last = this.count - 1;
    if (this.length(last) === 1) this.#words[0] = last;
    else {
      this.#words[1 + 2 * last] = this.start(last) + 1;
      this.#words[2 + 2 * last] = this.length(last) - 1;
    }
  }

  clear(): void {
    this.#words[0] = 0;
  }
}

export class PendingFrees {
  readonly #clusters: RunList;
  readonly #punches: RunList;

  constructor(shared: SharedPendingFrees) {
    this.#clusters = new RunList(shared.clusters);
    this.#punches = new RunList(shared.punches);
  }

  /** There may be no room for what the next operation adds: commit first. */
  get isFull(): boolean {
    return this.#clusters.count >= HIGH_WATER || this.#punches.count >= HIGH_WATER;
  }

  get isEmpty(): boolean {
    return this.#clusters.count === 0 && this.#punches.count === 0;
  }

  clear(): void {
    this.#clusters.clear();
    this.#punches.clear();
  }

  /** One reference less for each of the clusters. */
  addClusters(first: number, count: number): void {
    this.#clusters.add(first, count);
  }

  /** A part of a cluster that stays in use. */
  addPunch(offset: number, length: number): void {
    this.#punches.add(offset, length);
  }

  /** The bytes are in use again: what is left of the runs around them still goes. */
  cancelPunches(offset: number, length: number): void {
    if (this.#punches.count === 0) return;
    const end = offset + length;
    const kept: [number, number][] = [];
    let overlaps = false;
    for (let i = 0; i < this.#punches.count; i++) {
      const start = this.#punches.start(i);
      const stop = start + this.#punches.length(i);
      if (start >= end || stop <= offset) {
        kept.push([start, stop]);
        continue;
      }
      overlaps = true;
      if (start < offset) kept.push([start, offset]);
      if (stop > end) kept.push([end, stop]);
    }
    if (!overlaps) return;
    this.#punches.clear();
    for (const [start, stop] of kept.slice(0, CAPACITY)) this.#punches.add(start, stop - start);
  }

  /**
   * Hands over the clusters one by one, as often as each lost a reference, and forgets each when `lower` returns: after
   * a failure exactly those are left that were not lowered.
   */
  takeClusters(lower: (cluster: number) => void): void {
    while (this.#clusters.count > 0) {
      lower(this.#clusters.start(this.#clusters.count - 1));
      this.#clusters.shiftLast();
    }
  }

  /** Hands over all punches, pairs of offset and length, and forgets them. */
  takePunches(): [number, number][] {
    const list = this.#punches;
    const taken = Array.from({ length: list.count }, (_, i): [number, number] => [
      list.start(i),
      list.length(i),
    ]);
    list.clear();
    return taken;
  }
}
