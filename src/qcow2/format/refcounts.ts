/**
 * Refcount blocks (specification: "Host cluster management"): counts of 2^refcount_order bits, big-endian; those
 * narrower than a byte fill it from its lowest bits.
 */
import { TWO_32 } from './units.js';

/** The largest count that a width can hold; widths of 64 bits are bounded by what a number holds exactly. */
export function maxRefcount(refcountBits: number): number {
  return refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1;
}

/**
 * @param bytes of a refcount block, or of a slice of one
 * @param index counts from the start of `bytes`
 * @returns the count; `Number.MAX_SAFE_INTEGER` for all that is larger
 */
export function readRefcount(bytes: Uint8Array, refcountBits: number, index: number): number {
  switch (refcountBits) {
    case 8:
      return bytes[index]!;
    case 16:
      return (bytes[2 * index]! << 8) | bytes[2 * index + 1]!;
    case 32:
      return word(bytes, 4 * index);
    case 64:
      return Math.min(Number.MAX_SAFE_INTEGER, word(bytes, 8 * index) * TWO_32 + word(bytes, 8 * index + 4));
    default: {
      const bit = index * refcountBits;
      return (bytes[bit >> 3]! >> (bit & 7)) & ((1 << refcountBits) - 1);
    }
  }
}

/**
 * The first of the counts in `[from, end)` that is 0; `end` where there is none. An image may say that billions of
 * clusters are in use, so it looks at eight counts of one bit at once.
 */
export function nextFree(bytes: Uint8Array, refcountBits: number, from: number, end: number): number {
  for (let index = from; index < end; index++) {
    if (readRefcount(bytes, refcountBits, index) === 0) return index;
    if (refcountBits !== 1 || (index & 7) !== 7) continue;
    let byte = (index + 1) >> 3;
    while (byte < end >> 3 && bytes[byte] === 0xff) byte++;
    index = 8 * byte - 1;
  }
  return end;
}

/** @param value at most `maxRefcount(refcountBits)` */
export function writeRefcount(bytes: Uint8Array, refcountBits: number, index: number, value: number): void {
  switch (refcountBits) {
    case 8:
      bytes[index] = value;
      return;
    case 16:
      bytes[2 * index] = value >>> 8;
      bytes[2 * index + 1] = value;
      return;
    case 32:
      setWord(bytes, 4 * index, value);
      return;
    case 64:
      setWord(bytes, 8 * index, Math.floor(value / TWO_32));
      setWord(bytes, 8 * index + 4, value % TWO_32);
      return;
    default: {
      const bit = index * refcountBits;
      const mask = ((1 << refcountBits) - 1) << (bit & 7);
      bytes[bit >> 3] = (bytes[bit >> 3]! & ~mask) | (value << (bit & 7));
    }
  }
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
