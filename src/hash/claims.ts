/**
 * Who works on what: the disk in parts of one size, which threads claim in order. Those who are done with the parts
 * give them back in order, too, and nobody claims a part that is too far ahead of them.
 *
 *   WORD  DESCRIPTION
 *      0  the first part that nobody has claimed
 *      1  the first part that is not done with
 *      2  event: what threads that have nothing to do wait on, bumped whenever something changes
 *      3  threads that wait
 */

const HEAD = 0;
const TAIL = 1;
const EVENT = 2;
const WAITERS = 3;
const WORDS = 4;

/** What parts may have in all: they are counted in 32 bits. */
export const MAX_PARTS = 2 ** 31 - 1;

export const ALL_CLAIMED = -1;
export const TOO_FAR = -2;

export interface SharedClaims {
  readonly memory: SharedArrayBuffer;
  readonly parts: number;
  /** Parts that may be claimed and not done with at a time. */
  readonly window: number;
}

export function allocateClaims(parts: number, window: number): SharedClaims {
  return { memory: new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT), parts, window };
}

export class Claims {
  readonly parts: number;
  readonly #window: number;
  readonly #words: Int32Array;

  constructor({ memory, parts, window }: SharedClaims) {
    this.parts = parts;
    this.#window = window;
    this.#words = new Int32Array(memory);
  }

  /** @returns the number of a part that is the caller's now; `ALL_CLAIMED`, or `TOO_FAR` for now */
  claim(): number {
    const words = this.#words;
    for (;;) {
      const head = Atomics.load(words, HEAD);
      if (head === this.parts) return ALL_CLAIMED;
      if (head - Atomics.load(words, TAIL) >= this.#window) return TOO_FAR;
      if (Atomics.compareExchange(words, HEAD, head, head + 1) === head) return head;
    }
  }

  get isAllClaimed(): boolean {
    return Atomics.load(this.#words, HEAD) === this.parts;
  }

  /** Parts done with. */
  get done(): number {
    return Atomics.load(this.#words, TAIL);
  }

  /** The first part that is not done with is so now. */
  finish(): void {
    Atomics.add(this.#words, TAIL, 1);
    this.announce();
  }

  /** To be taken before looking for something to do, and given to `wait` when there is nothing. */
  get event(): number {
    return Atomics.load(this.#words, EVENT);
  }

  /** Returns when something has changed since `event` was taken. */
  wait(event: number): void {
    Atomics.add(this.#words, WAITERS, 1);
    Atomics.wait(this.#words, EVENT, event);
    Atomics.sub(this.#words, WAITERS, 1);
  }

  /** Something has changed. */
  announce(): void {
    Atomics.add(this.#words, EVENT, 1);
    if (Atomics.load(this.#words, WAITERS) > 0) Atomics.notify(this.#words, EVENT);
  }
}
