/**
 * A reader/writer lock over shared memory: many threads in `shared`, or one in `exclusive`. Waiting writers go first,
 * so that a stream of reads cannot starve them. Not recursive.
 *
 *   WORD  DESCRIPTION
 *      0  state: the number of readers, or -1 for a writer
 *      1  writers that wait
 *      2  threads asleep
 *      3  epoch: what the sleepers wait on, bumped at every release while somebody sleeps
 *      4  poisoned: a thread died while it may have held the lock
 */
import { isMainThread } from 'node:worker_threads';
import { Qcow2fsError } from '../errors.js';

const STATE = 0;
const WAITING_WRITERS = 1;
const SLEEPERS = 2;
const EPOCH = 3;
const POISONED = 4;
const WORDS = 5;
const WRITER = -1;

/**
 * The main thread hears when another one died, and with it the lock that it held; so it must not wait for ever:
 * milliseconds. The others may.
 */
const PATIENCE = isMainThread ? 20_000 : Number.POSITIVE_INFINITY;

export class RwLock {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, WORDS);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
  }

  acquireShared(): void {
    const words = this.#words;
    for (;;) {
      this.#refusePoison();
      const state = Atomics.load(words, STATE);
      if (state >= 0 && Atomics.load(words, WAITING_WRITERS) === 0) {
        if (Atomics.compareExchange(words, STATE, state, state + 1) === state) return;
      } else {
        this.#sleepWhile(blocksReaders);
      }
    }
  }

  releaseShared(): void {
    Atomics.sub(this.#words, STATE, 1);
    this.#wake();
  }

  acquireExclusive(): void {
    const words = this.#words;
    Atomics.add(words, WAITING_WRITERS, 1);
    try {
      for (;;) {
        this.#refusePoison();
        if (Atomics.compareExchange(words, STATE, 0, WRITER) === 0) {
          Atomics.sub(words, WAITING_WRITERS, 1);
          return;
        }
        this.#sleepWhile(blocksWriters);
      }
    } catch (error) {
      // Readers may sleep because of this writer alone.
      Atomics.sub(words, WAITING_WRITERS, 1);
      this.#wake();
      throw error;
    }
  }

  releaseExclusive(): void {
    Atomics.store(this.#words, STATE, 0);
    this.#wake();
  }

  /** Makes every present and later acquisition fail: what the lock guards can no longer be trusted. */
  poison(): void {
    Atomics.store(this.#words, POISONED, 1);
    Atomics.add(this.#words, EPOCH, 1);
    Atomics.notify(this.#words, EPOCH);
  }

  #refusePoison(): void {
    if (Atomics.load(this.#words, POISONED) !== 0) {
      throw new Qcow2fsError('internal', 'a thread died while it used the image; unmount and mount again');
    }
  }

  /**
   * A release changes the state first and looks for sleepers second; a sleeper announces itself first and looks at
   * the state second. So one of the two always sees the other.
   */
  #sleepWhile(blocked: (words: Int32Array) => boolean): void {
    const words = this.#words;
    Atomics.add(words, SLEEPERS, 1);
    const epoch = Atomics.load(words, EPOCH);
    const outcome = blocked(words) ? Atomics.wait(words, EPOCH, epoch, PATIENCE) : 'ok';
    Atomics.sub(words, SLEEPERS, 1);
    if (outcome === 'timed-out') {
      throw new Qcow2fsError('internal', `another thread uses the image for more than ${PATIENCE / 1000} s`);
    }
  }

  #wake(): void {
    if (Atomics.load(this.#words, SLEEPERS) === 0) return;
    Atomics.add(this.#words, EPOCH, 1);
    Atomics.notify(this.#words, EPOCH);
  }
}

function blocksReaders(words: Int32Array): boolean {
  const blocked = Atomics.load(words, STATE) < 0 || Atomics.load(words, WAITING_WRITERS) > 0;
  return blocked && Atomics.load(words, POISONED) === 0;
}

function blocksWriters(words: Int32Array): boolean {
  return Atomics.load(words, STATE) !== 0 && Atomics.load(words, POISONED) === 0;
}
