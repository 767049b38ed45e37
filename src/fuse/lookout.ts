/**
 * How the threads of a mount share the waiting for requests, in shared memory.
 *
 * The kernel wakes a sleeping thread for each request, mostly on another processor. While a program sends one request
 * after the other, each when it has the answer to the last, that is in vain: the thread that gave the answer looks for
 * the next request before the other one is awake. So one thread is the lookout then, and waits for requests alone; the
 * others stay out of the way until there is work for more than one.
 *
 *   WORD  DESCRIPTION
 *      0  busy: threads that have a request to answer
 *      1  lookout: the number of the thread that is the lookout; 0 for none
 *      2  progress: bumped with each request
 *      3  calls: what those wait on who stay out of the way, bumped to call them back
 *      4  idle since: when the latest request was answered, a double: milliseconds since 1970
 */
const BUSY = 0;
const LOOKOUT = 1;
const PROGRESS = 2;
const CALLS = 3;
const WORDS = 4;
const IDLE_SINCE_BYTE = WORDS * Int32Array.BYTES_PER_ELEMENT;
const NOBODY = 0;

const RELIEF = 5;

export function allocateLookout(): SharedArrayBuffer {
  return new SharedArrayBuffer(IDLE_SINCE_BYTE + Float64Array.BYTES_PER_ELEMENT);
}

export class Lookout {
  readonly #words: Int32Array;
  readonly #idleSince: Float64Array;
  readonly #thread: number;
  readonly #relief: number;

  /**
   * @param memory of `allocateLookout`
   * @param thread a number of its own for each thread, from 1
   * @param relief how long a request may keep the lookout before another thread takes over: milliseconds
   */
  constructor(memory: SharedArrayBuffer, thread: number, relief = RELIEF) {
    this.#words = new Int32Array(memory, 0, WORDS);
    this.#idleSince = new Float64Array(memory, IDLE_SINCE_BYTE, 1);
    this.#thread = thread;
    this.#relief = relief;
  }

  /**
   * The calling thread has a request.
   * @returns how long nobody had one, in milliseconds; -1 when another thread has one
   */
  begin(): number {
    Atomics.add(this.#words, PROGRESS, 1);
    const others = Atomics.add(this.#words, BUSY, 1);
    return others > 0 ? -1 : Math.max(0, now() - this.#idleSince[0]!);
  }

  /** The request is answered. */
  end(): void {
    this.#idleSince[0] = now();
    Atomics.sub(this.#words, BUSY, 1);
  }

  /** Makes the calling thread the lookout, if nobody else is. @returns whether it is */
  take(): boolean {
    const before = Atomics.compareExchange(this.#words, LOOKOUT, NOBODY, this.#thread);
    return before === NOBODY || before === this.#thread;
  }

  /** The calling thread is not the lookout any more, if it was, and those who stayed out of the way come back. */
  call(): void {
    Atomics.compareExchange(this.#words, LOOKOUT, this.#thread, NOBODY);
    Atomics.add(this.#words, CALLS, 1);
    Atomics.notify(this.#words, CALLS);
  }

  /**
   * Stays out of the lookout's way: until it calls, or until it makes no progress, because its request takes long or
   * nobody sends any, and the caller takes its place.
   */
  stayAway(): void {
    const words = this.#words;
    const calls = Atomics.load(words, CALLS);
    for (;;) {
      const lookout = Atomics.load(words, LOOKOUT);
      if (lookout === NOBODY || lookout === this.#thread) return;
      const progress = Atomics.load(words, PROGRESS);
      if (Atomics.wait(words, CALLS, calls, this.#relief) !== 'timed-out') return;
      if (Atomics.load(words, PROGRESS) !== progress) continue;
      if (Atomics.compareExchange(words, LOOKOUT, lookout, this.#thread) === lookout) return;
    }
  }
}

/** The clock of each thread starts at its own time. */
function now(): number {
  return ORIGIN + performance.now();
}
const ORIGIN = performance.timeOrigin;
