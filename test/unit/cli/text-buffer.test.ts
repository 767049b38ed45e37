import { expect } from 'chai';
import { TextBuffer } from '../../../src/cli/text-buffer.js';
import { Random } from '../../support/random.js';

describe('a text buffer', () => {
  const written = (fill: (text: TextBuffer) => void): string => {
    const text = new TextBuffer();
    fill(text);
    return Buffer.from(text.take()).toString();
  };

  it('writes numbers as everybody does', () => {
    const random = new Random(1);
    const edges = Array.from({ length: 16 }, (_, power) => [
      10 ** power - 1,
      10 ** power,
      10 ** power + 1,
    ]).flat();
    const powers = Array.from({ length: 53 }, (_, power) => [2 ** power - 1, 2 ** power]).flat();
    const others = Array.from({ length: 1000 }, () => Number(random.u64() >> BigInt(11 + random.below(52))));
    for (const value of [...edges, ...powers, ...others, Number.MAX_SAFE_INTEGER]) {
      expect(written((text) => text.number(value))).to.equal(String(value));
    }
  });

  it('grows with what it is given, and starts anew when it was taken', () => {
    const text = new TextBuffer();
    let expected = '';
    for (let count = 0; count < 100_000; count++) {
      text.number(count);
      text.text('ä');
      expected += `${count}ä`;
    }
    expect(text.length).to.equal(Buffer.byteLength(expected));
    expect(Buffer.from(text.take()).toString()).to.equal(expected);
    text.text('again');
    expect(Buffer.from(text.take()).toString()).to.equal('again');
  });
});
