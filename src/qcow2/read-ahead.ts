/**
 * Tells from the reads of an image whether somebody reads it from one end to the other, and what comes next. One for
 * all threads, in shared memory without a lock: these are guesses, and a wrong one costs a little work.
 */

/** Reads in a row, each beginning about where the last one ended, before anything is read ahead. */
const ENOUGH = 4;
/** What counts as about there: threads finish in any order. Bytes. */
const REACH = 2 * 1024 * 1024;

const FRONT = 0;
const NEXT = 1;
const STREAK = 2;
const NUMBERS = 3;

export function allocateReadAhead(): SharedArrayBuffer {
  return new SharedArrayBuffer(NUMBERS * Float64Array.BYTES_PER_ELEMENT);
}

export class ReadAhead {
  /** Where the furthest read ended; what was not fetched yet; reads in a row that went forward. */
  readonly #numbers: Float64Array;
  readonly #clusterSize: number;
  readonly #window: number;

  /**
   * @param window the most that may be fetched before it is wanted: bytes
   */
  constructor(memory: SharedArrayBuffer, clusterSize: number, window: number) {
    this.#numbers = new Float64Array(memory);
    this.#clusterSize = clusterSize;
    this.#window = window;
  }

  /** Somebody reads this. */
  note(offset: number, length: number): void {
    const numbers = this.#numbers;
    const front = numbers[FRONT]!;
    const end = offset + length;
    if (Math.abs(offset - front) > REACH) {
      numbers[STREAK] = 0;
      numbers[NEXT] = end;
      numbers[FRONT] = end;
    } else if (end > front) {
      numbers[STREAK]!++;
      numbers[FRONT] = end;
    }
  }

  /** True when the cluster at `next` should be fetched. */
  isWanted(diskSize: number): boolean {
    return this.#numbers[STREAK]! >= ENOUGH && this.next < Math.min(diskSize, this.#limit);
  }

  /**
   * Guest offset of the next cluster to fetch. It leaves one to the reader, who would only wait for whoever is a step
   * ahead.
   */
  get next(): number {
    const front = this.#numbers[FRONT]!;
    const next = this.#numbers[NEXT]!;
    const from = next > front ? next : front + this.#clusterSize;
    return Math.ceil(from / this.#clusterSize) * this.#clusterSize;
  }

  /** Everything up to `offset` is fetched, or needs no fetching. */
  advance(offset: number): void {
    this.#numbers[NEXT] = offset;
  }

  get #limit(): number {
    return this.#numbers[FRONT]! + this.#window;
  }
}
