/** Blocks or sectors that say which write they are of, and where they belong. */

import type { Layout } from './layout.js';

/** What a unit holds: nothing but zeros, what it held first, or the stamp of a write. */
export type Value = number;
export const ZEROS: Value = 0;
export const INITIAL: Value = 1;
/** Not the content of any one write. */
export const MIXED: Value = -1;

const MAX_WRITERS = 64;

export function stampOf(writer: number, operation: number): Value {
  return 2 + operation * MAX_WRITERS + writer;
}

export function describeValue(value: Value): string {
  if (value === ZEROS) return 'zeros';
  if (value === INITIAL) return 'the first content';
  if (value === MIXED) return 'a mixture';
  return `write ${Math.floor((value - 2) / MAX_WRITERS)} of contender ${(value - 2) % MAX_WRITERS}`;
}

export class Units {
  /** Bytes of each. */
  readonly size: number;
  readonly encrypted: boolean;
  readonly #initial: Buffer;
  readonly #zeros: Buffer;

  /** @param initial what the disk holds before anybody writes */
  constructor({ unit, encrypted }: Layout, initial: Buffer) {
    const size = unit;
    this.size = size;
    this.encrypted = encrypted;
    this.#initial = initial;
    this.#zeros = Buffer.alloc(size);
  }

  /** What so many units from `first` on hold after a write with this value. */
  content(value: Value, first: number, count = 1): Buffer {
    const { size } = this;
    if (value === ZEROS) return Buffer.alloc(count * size);
    if (value === INITIAL) return this.#initial.subarray(first * size, (first + count) * size);
    const bytes = Buffer.alloc(count * size);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const perUnit = size / 4;
    for (let index = 0; index < count; index++) {
      let state = (Math.imul(value, 0x9e3779b1) ^ Math.imul(first + index + 1, 0x85ebca6b)) | 1;
      for (let word = 2; word < perUnit; word++) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        words[index * perUnit + word] = state;
      }
      words[index * perUnit] = value;
      words[index * perUnit + 1] = first + index;
    }
    return bytes;
  }

  /** @returns what a unit holds, or `MIXED` */
  identify(bytes: Buffer, at: number, unit: number): Value {
    const end = at + this.size;
    if (bytes.compare(this.#zeros, 0, this.size, at, end) === 0) return ZEROS;
    const value = bytes.readUInt32LE(at);
    if (value > INITIAL && bytes.readUInt32LE(at + 4) === unit) {
      if (bytes.compare(this.content(value, unit), 0, this.size, at, end) === 0) return value;
    }
    return bytes.compare(this.content(INITIAL, unit), 0, this.size, at, end) === 0 ? INITIAL : MIXED;
  }
}
