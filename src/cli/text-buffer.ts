/** Text for programs, put together as bytes: a long list of numbers takes a fraction of the time that strings take. */

const INITIAL_BYTES = 128 * 1024;
/** Decimal digits of a number of 32 bits that are written at once. */
const GROUP_DIGITS = 9;
const GROUP = 10 ** GROUP_DIGITS;
/** Of the largest number that is exact. */
const MAX_DIGITS = 16;
const ZERO = 0x30;

export class TextBuffer {
  #bytes = Buffer.alloc(INITIAL_BYTES);
  #length = 0;

  /** Bytes. */
  get length(): number {
    return this.#length;
  }

  text(text: string): void {
    this.piece(Buffer.from(text));
  }

  /** Text that is wanted often, encoded once. */
  piece(encoded: Uint8Array): void {
    this.#reserve(encoded.length);
    this.#bytes.set(encoded, this.#length);
    this.#length += encoded.length;
  }

  /** @param value a whole number from 0 on */
  number(value: number): void {
    this.#reserve(MAX_DIGITS);
    if (value < GROUP) {
      this.#digits(value, digitsOf(value));
      return;
    }
    const high = Math.floor(value / GROUP);
    this.#digits(high, digitsOf(high));
    this.#digits(value - high * GROUP, GROUP_DIGITS);
  }

  /** Gives away what was collected; valid until something is added. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }

  #digits(value: number, count: number): void {
    let rest = value | 0;
    for (let at = this.#length + count - 1; at >= this.#length; at--) {
      const next = (rest / 10) | 0;
      this.#bytes[at] = ZERO + rest - next * 10;
      rest = next;
    }
    this.#length += count;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = Buffer.alloc(2 * (this.#length + more));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** @param value below `GROUP` */
function digitsOf(value: number): number {
  let digits = 1;
  for (let limit = 10; value >= limit; limit *= 10) digits++;
  return digits;
}
