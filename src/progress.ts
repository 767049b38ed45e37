/**
 * How far a long piece of work is: shared by the threads that do it, which count, and the one that tells people, which
 * may ask them to stop.
 */

const TOTAL = 0;
const DONE = 1;
const COUNTERS = 2;
const PHASE = 0;
const CANCELLED = 1;
const FLAGS = 2;
const COUNTER_BYTES = COUNTERS * BigInt64Array.BYTES_PER_ELEMENT;

export class Progress {
  /** Makes the same object in another thread. */
  readonly memory: SharedArrayBuffer;
  readonly #counters: BigInt64Array;
  readonly #flags: Int32Array;

  constructor(memory = new SharedArrayBuffer(COUNTER_BYTES + FLAGS * Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#counters = new BigInt64Array(memory, 0, COUNTERS);
    this.#flags = new Int32Array(memory, COUNTER_BYTES, FLAGS);
  }

  /**
   * The work comes to its next part.
   * @param phase its number, from 0
   * @param total what `advance` will come to, in the unit of the work; 0 where nobody knows
   */
  begin(phase: number, total: number): void {
    Atomics.store(this.#counters, DONE, 0n);
    Atomics.store(this.#counters, TOTAL, BigInt(total));
    Atomics.store(this.#flags, PHASE, phase);
  }

  /** May be called by several threads at once. */
  advance(amount: number): void {
    Atomics.add(this.#counters, DONE, BigInt(amount));
  }

  get phase(): number {
    return Atomics.load(this.#flags, PHASE);
  }

  get total(): number {
    return Number(Atomics.load(this.#counters, TOTAL));
  }

  get done(): number {
    return Number(Atomics.load(this.#counters, DONE));
  }

  /** Asks whoever works to stop where that does no harm. */
  cancel(): void {
    Atomics.store(this.#flags, CANCELLED, 1);
  }

  get isCancelled(): boolean {
    return Atomics.load(this.#flags, CANCELLED) !== 0;
  }
}
