import { expect } from 'chai';
import {
  maxRefcount,
  nextFree,
  readRefcount,
  writeRefcount,
} from '../../../../src/qcow2/format/refcounts.js';
import { Random } from '../../../support/random.js';

const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

describe('a refcount block', () => {
  for (const bits of WIDTHS) {
    it(`of ${bits}-bit counts keeps each count apart from its neighbours`, () => {
      const bytes = Buffer.alloc(64);
      const count = (bytes.length * 8) / bits;
      const values = Array.from({ length: count }, (_, i) => (i * 7 + 1) % (maxRefcount(bits) + 1));
      for (const [index, value] of values.entries()) writeRefcount(bytes, bits, index, value);
      expect(values.map((_, index) => readRefcount(bytes, bits, index))).to.deep.equal(values);
      writeRefcount(bytes, bits, 3, maxRefcount(bits));
      expect(readRefcount(bytes, bits, 3)).to.equal(maxRefcount(bits));
      expect([readRefcount(bytes, bits, 2), readRefcount(bytes, bits, 4)]).to.deep.equal([
        values[2],
        values[4],
      ]);
    });
  }

  it('finds the next count of 0, in any range of it', () => {
    const random = new Random(3);
    for (const bits of WIDTHS) {
      for (let round = 0; round < 50; round++) {
        const bytes = Buffer.alloc(64, 0xff);
        const count = (bytes.length * 8) / bits;
        for (let zeros = random.below(4); zeros > 0; zeros--)
          writeRefcount(bytes, bits, random.below(count), 0);
        const from = random.below(count);
        const end = from + random.below(count - from + 1);
        let expected = from;
        while (expected < end && readRefcount(bytes, bits, expected) !== 0) expected++;
        expect(nextFree(bytes, bits, from, end)).to.equal(expected);
      }
    }
  });

  it('fills bytes from their lowest bits, and is big-endian above', () => {
    const bytes = Buffer.alloc(8);
    writeRefcount(bytes, 1, 1, 1);
    expect(bytes[0]).to.equal(0b10);
    writeRefcount(bytes, 4, 1, 0xa);
    expect(bytes[0]).to.equal(0xa2);
    writeRefcount(bytes, 16, 0, 0x1234);
    expect(bytes.readUInt16BE(0)).to.equal(0x1234);
    writeRefcount(bytes, 32, 0, 0xfedcba98);
    expect(bytes.readUInt32BE(0)).to.equal(0xfedcba98);
    writeRefcount(bytes, 64, 0, 2 ** 40 + 5);
    expect(bytes.readBigUInt64BE(0)).to.equal(2n ** 40n + 5n);
  });

  it('with counts that no number holds reads as the largest one', () => {
    const bytes = Buffer.alloc(8, 0xff);
    expect(readRefcount(bytes, 64, 0)).to.equal(Number.MAX_SAFE_INTEGER);
  });
});
