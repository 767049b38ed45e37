import { expect } from 'chai';
import {
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
  isCopied,
  isZero,
} from '../../../../src/qcow2/format/entries.js';
import { Random } from '../../../support/random.js';

const high = (entry: bigint): number => Number(entry >> 32n);
const low = (entry: bigint): number => Number(entry & 0xffff_ffffn);
const ROUNDS = 5000;

/** All ones and zeros at the borders, and random words. */
function* entries(): Generator<bigint> {
  yield 0n;
  yield 2n ** 64n - 1n;
  for (let bit = 0n; bit < 64n; bit++) yield 1n << bit;
  const random = new Random(9);
  for (let round = 0; round < ROUNDS; round++) yield random.u64();
}

describe('a table entry', () => {
  it('holds its host offset in bits 9 to 55', () => {
    for (const entry of entries()) {
      expect(BigInt(entryOffset(high(entry), low(entry)))).to.equal(entry & 0x00fffffffffffe00n);
    }
  });

  it('holds its flags in bits 63, 62 and 0', () => {
    for (const entry of entries()) {
      expect(isCopied(high(entry))).to.equal(entry >> 63n === 1n);
      expect(isCompressed(high(entry))).to.equal(((entry >> 62n) & 1n) === 1n);
      expect(isZero(low(entry))).to.equal((entry & 1n) === 1n);
    }
  });
});

describe('a compressed cluster descriptor', () => {
  for (let clusterBits = 9; clusterBits <= 21; clusterBits++) {
    it(`splits as the specification says with ${clusterBits} cluster bits`, () => {
      const layout = compressedLayout(clusterBits);
      // "x = 62 - (cluster_bits - 8)": bits 0 to x-1 offset, x to 61 additional sectors.
      const x = 62n - (BigInt(clusterBits) - 8n);
      for (const raw of entries()) {
        // Offsets that no file can have are not exact numbers; they stay what they are: far beyond any end.
        const entry = raw & (((1n << 62n) - (1n << x)) | ((1n << 53n) - 1n) | (3n << 62n));
        const offset = entry & ((1n << x) - 1n);
        const sectors = (entry >> x) & ((1n << (62n - x)) - 1n);
        expect(BigInt(compressedOffset(high(entry), low(entry), layout))).to.equal(offset);
        const length = compressedLength(high(entry), low(entry), layout);
        expect(BigInt(length)).to.equal((sectors + 1n) * 512n - (offset & 511n));
      }
    });
  }

  it('covers at most as much as two clusters, and at least a byte', () => {
    for (const clusterBits of [9, 16, 21]) {
      const layout = compressedLayout(clusterBits);
      expect(compressedLength(0xffff_ffff, 0, layout)).to.equal(2 ** (clusterBits + 1));
      expect(compressedLength(0, 511, layout)).to.equal(1);
    }
  });
});
