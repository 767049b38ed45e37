/** A guest that writes, erases, flushes and reads at random, from a seed, beside a shadow of what the disk must hold. */

/** What a disk, or a file that shows one, can do. */
export interface Target {
  readonly size: number;
  read(target: Buffer, length: number, offset: number): void;
  write(source: Buffer, length: number, offset: number): void;
  discard(offset: number, length: number): void;
  zero(offset: number, length: number): void;
  flush(): void;
}

export type Random = () => number;

/** Park-Miller: the same sequence for the same seed, numbers from 0 up to 1. */
export function randomNumbers(seed: number): Random {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/** Bytes of the largest operation. */
const MAX_LENGTH = 512 * 1024;

export interface GuestOptions {
  /** Share of the operations that erase; 0.25 unless told. */
  readonly erasing?: number;
  /** Told of every operation before it is made. */
  readonly trace?: (operation: string) => void;
}

export class RandomGuest {
  readonly shadow: Buffer;
  readonly #random: Random;
  readonly #erasing: number;
  readonly #trace: (operation: string) => void;
  readonly #buffer = Buffer.alloc(MAX_LENGTH);
  #stamp = 1;

  /** @param shadow what the disk holds now */
  constructor(shadow: Buffer, random: Random, options: GuestOptions = {}) {
    this.shadow = shadow;
    this.#random = random;
    this.#erasing = options.erasing ?? 0.25;
    this.#trace = options.trace ?? (() => {});
  }

  /** One operation. Reads are compared at once. */
  step(target: Target): void {
    if (target.size === 0) return;
    const dice = this.#random();
    const { offset, length } = this.#range();
    if (dice < this.#erasing) {
      const how = dice < this.#erasing / 2 ? 'discard' : 'zero';
      this.#trace(`${how} ${offset} ${length}`);
      target[how](offset, length);
      this.shadow.fill(0, offset, offset + length);
    } else if (dice < 0.8) {
      this.#trace(`write ${offset} ${length}`);
      this.#fill(length);
      target.write(this.#buffer, length, offset);
      this.#buffer.copy(this.shadow, offset, 0, length);
    } else if (dice < 0.97) {
      this.#trace(`read ${offset} ${length}`);
      this.check(target, offset, length);
    } else {
      this.#trace('flush');
      target.flush();
    }
  }

  /** Compares a range with the shadow. */
  check(target: Target, offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += MAX_LENGTH) {
      const piece = Math.min(MAX_LENGTH, offset + length - at);
      target.read(this.#buffer, piece, at);
      if (this.#buffer.compare(this.shadow, at, at + piece, 0, piece) === 0) continue;
      let wrong = 0;
      while (this.#buffer[wrong] === this.shadow[at + wrong]) wrong++;
      const got = this.#buffer[wrong];
      throw new Error(`byte ${at + wrong} is ${got}, but ${this.shadow[at + wrong]} was written`);
    }
  }

  checkAll(target: Target): void {
    if (target.size !== this.shadow.length) throw new Error(`the disk has ${target.size} bytes`);
    this.check(target, 0, target.size);
  }

  /** Mostly small, often aligned to something, sometimes up to the end. */
  #range(): { offset: number; length: number } {
    const size = this.shadow.length;
    const grain = [1, 512, 4096, 65536][Math.floor(this.#random() * 4)]!;
    const wanted = Math.ceil(this.#random() ** 5 * MAX_LENGTH);
    const start = Math.min(size - 1, Math.floor(this.#random() * size));
    const offset = start - (start % grain);
    const length = this.#random() < 0.05 ? size - offset : Math.ceil(wanted / grain) * grain;
    return { offset, length: Math.max(1, Math.min(length, size - offset, MAX_LENGTH)) };
  }

  /** No two writes have the same bytes, and none has zeros. */
  #fill(length: number): void {
    const stamp = this.#stamp++;
    for (let i = 0; i < length; i++) this.#buffer[i] = 1 + ((stamp * 31 + (i >> 4) + (i >> 9)) % 255);
  }
}
