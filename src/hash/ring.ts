/**
 * Parts of the disk on their way from the threads that read them to those that hash them, in shared memory. Each part
 * has the slot of its number, and leaves it when all who hash are done with it.
 */
import { allocateClaims, Claims, type SharedClaims } from './claims.js';

/** By slot: the number of the part that is ready, plus 1; who still has to hash it; whether it is zeros. */
const READY = 0;
const PENDING = 1;
const ZERO = 2;
const WORDS = 3;

export interface SharedRing {
  readonly claims: SharedClaims;
  readonly state: SharedArrayBuffer;
  readonly content: SharedArrayBuffer;
  readonly partBytes: number;
  /** Threads that hash. */
  readonly consumers: number;
}

export function allocateRing(parts: number, partBytes: number, slots: number, consumers: number): SharedRing {
  return {
    claims: allocateClaims(parts, slots),
    state: new SharedArrayBuffer(slots * WORDS * Int32Array.BYTES_PER_ELEMENT),
    content: new SharedArrayBuffer(slots * partBytes),
    partBytes,
    consumers,
  };
}

export class Ring {
  readonly claims: Claims;
  readonly #consumers: number;
  readonly #state: Int32Array;
  readonly #slots: readonly Buffer[];

  constructor({ claims, state, content, partBytes, consumers }: SharedRing) {
    this.claims = new Claims(claims);
    this.#consumers = consumers;
    this.#state = new Int32Array(state);
    this.#slots = Array.from({ length: claims.window }, (_, slot) =>
      Buffer.from(content, slot * partBytes, partBytes),
    );
  }

  /** Where the bytes of a part are, or are to be. */
  slot(part: number): Buffer {
    return this.#slots[part % this.#slots.length]!;
  }

  /** The slot of a claimed part is filled, or need not be, for it is zeros. */
  publish(part: number, isZero: boolean): void {
    const word = this.#word(part);
    Atomics.store(this.#state, word + ZERO, isZero ? 1 : 0);
    Atomics.store(this.#state, word + PENDING, this.#consumers);
    Atomics.store(this.#state, word + READY, part + 1);
    this.claims.announce();
  }

  isReady(part: number): boolean {
    return Atomics.load(this.#state, this.#word(part) + READY) === part + 1;
  }

  isZero(part: number): boolean {
    return Atomics.load(this.#state, this.#word(part) + ZERO) === 1;
  }

  /**
   * The caller has hashed the part.
   * @returns true when everybody has
   */
  release(part: number): boolean {
    if (Atomics.sub(this.#state, this.#word(part) + PENDING, 1) > 1) return false;
    this.claims.finish();
    return true;
  }

  #word(part: number): number {
    return (part % this.#slots.length) * WORDS;
  }
}
