/** Values that are worth trying in a field: the edges of its type, neighbours, and offsets of other structures. */
import type { Random } from '../support/random.js';

/** The flags of table entries: COPIED, COMPRESSED, zero, and what is reserved between the two ends of the offset. */
const ENTRY_FLAGS = 0xff00_0000_0000_01ffn;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
/** Where numbers change their kind: 32 bits, exact doubles, file offsets, entries, signs. */
const EDGES = [31n, 32n, 40n, 53n, 56n, 61n, 62n, 63n].map((bits) => 1n << bits);

type Choice = (random: Random, old: bigint, bits: bigint) => bigint;

const CHOICES: readonly Choice[] = [
  () => 0n,
  () => 1n,
  (_, __, bits) => (1n << bits) - 1n,
  (_, __, bits) => 1n << (bits - 1n),
  (_, __, bits) => (1n << (bits - 1n)) - 1n,
  (_, old) => old + 1n,
  (_, old) => old - 1n,
  (_, old) => old * 2n,
  (_, old) => old / 2n,
  (random, old, bits) => old ^ (1n << BigInt(random.below(Number(bits)))),
  (random, old, bits) => old ^ (1n << BigInt(random.below(Number(bits)))),
  (random) => random.u64(),
  (random) => BigInt(random.below(64)),
  (random) => BigInt(random.below(65536)),
  (random, _, bits) => 1n << BigInt(random.below(Number(bits))),
  (random, old) => old + BigInt(random.below(4097)) - 2048n,
  (random) => random.pick(EDGES) - BigInt(random.below(3)),
];

/** @param width bytes of the field: 1 to 8 */
export function interestingValue(
  random: Random,
  width: number,
  old: bigint,
  offsets: readonly number[],
): bigint {
  const bits = BigInt(8 * width);
  const pointsSomewhere = width >= 4 && offsets.length > 0 && random.below(3) === 0;
  const value = pointsSomewhere
    ? offsetValue(random, width, old, offsets)
    : random.pick(CHOICES)(random, old, bits);
  return BigInt.asUintN(Number(bits), value);
}

function offsetValue(random: Random, width: number, old: bigint, offsets: readonly number[]): bigint {
  const offset = BigInt(Math.floor(random.pick(offsets))) + BigInt(random.pick([0, 0, 0, 0, 8, 512, -8, 1]));
  if (width < 8) return offset;
  switch (random.below(5)) {
    case 0:
      return offset;
    case 1:
      return COPIED | offset;
    case 2:
      return COMPRESSED | (random.u64() & 0x3fff_0000_0000_0000n) | offset;
    case 3:
      return COPIED | offset | 1n;
    default:
      return (old & ENTRY_FLAGS) | offset;
  }
}

/** Big-endian, as hexadecimal digits. */
export function encode(value: bigint, width: number): string {
  return value.toString(16).padStart(2 * width, '0');
}

export function decode(bytes: Buffer, at: number, width: number): bigint {
  return BigInt(`0x${bytes.toString('hex', at, at + width) || '0'}`);
}
