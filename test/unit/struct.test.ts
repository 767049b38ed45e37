import { expect } from 'chai';
import { struct, textOf } from '../../src/struct.js';

describe('a structure declaration', () => {
  it('with a gap throws when it loads', () => {
    const declare = () => struct('gappy', 'be', 9, { a: [0, 'u32'], b: [5, 'u32'] });
    expect(declare).to.throw('gappy.b is declared at 5, but follows byte 4');
  });

  it('with an overlap throws when it loads', () => {
    const declare = () => struct('overlapping', 'be', 6, { a: [0, 'u32'], b: [3, 'u16'] });
    expect(declare).to.throw('overlapping.b is declared at 3, but follows byte 4');
  });

  it('that does not start at 0 throws when it loads', () => {
    expect(() => struct('late', 'be', 5, { a: [1, 'u32'] })).to.throw('late.a');
  });

  it('of a size that its fields do not have throws when it loads', () => {
    const expected = 'short is declared with 9 bytes, but its fields take 8';
    expect(() => struct('short', 'be', 9, { a: [0, 'u64'] })).to.throw(expected);
    expect(() => struct('long', 'be', 7, { a: [0, 'bytes:8'] })).to.throw('its fields take 8');
  });

  it('gives the offsets of its fields', () => {
    const { offsets, size } = struct('x', 'le', 15, { a: [0, 'u8'], b: [1, 'u16'], c: [3, 'text:12'] });
    expect(offsets).to.deep.equal({ a: 0, b: 1, c: 3 });
    expect(size).to.equal(15);
  });
});

describe('a structure', () => {
  const fields = {
    u8: [0, 'u8'],
    u16: [1, 'u16'],
    u32: [3, 'u32'],
    u64: [7, 'u64'],
    i64: [15, 'i64'],
    mask: [23, 'mask64'],
    bytes: [31, 'bytes:3'],
    text: [34, 'text:5'],
  } as const;
  const values = {
    u8: 0xfe,
    u16: 0xfedc,
    u32: 0xfedcba98,
    u64: Number.MAX_SAFE_INTEGER,
    i64: -2,
    mask: 0xfedcba9876543210n,
    bytes: Buffer.from([1, 0, 2]),
    text: 'abc',
  };

  for (const order of ['be', 'le'] as const) {
    it(`comes back from its bytes as it was written (${order})`, () => {
      const all = struct('all', order, 39, fields);
      const buffer = Buffer.alloc(45, 0xaa);
      all.write(buffer, 4, values);
      expect(all.read(buffer, 4)).to.deep.equal(values);
      expect(buffer.subarray(0, 4).every((byte) => byte === 0xaa)).to.equal(true);
      expect(buffer.subarray(43).every((byte) => byte === 0xaa)).to.equal(true);
    });
  }

  it('keeps the byte order it was declared with', () => {
    const bytes = Buffer.from('0102030405060708', 'hex');
    expect(struct('big', 'be', 8, { a: [0, 'u32'], b: [4, 'u32'] }).read(bytes)).to.deep.equal({
      a: 0x01020304,
      b: 0x05060708,
    });
    expect(
      struct('little', 'le', 8, { a: [0, 'u64'] }).read(Buffer.from('0807060504030200', 'hex')).a,
    ).to.equal(0x02030405060708);
  });

  it('refuses a u64 above 2^53 - 1, and an i64 below its negative', () => {
    const one = struct('one', 'be', 8, { value: [0, 'u64'] });
    const signed = struct('signed', 'be', 8, { value: [0, 'i64'] });
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(2n ** 53n - 1n);
    expect(one.read(bytes).value).to.equal(2 ** 53 - 1);
    for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
      bytes.writeBigUInt64BE(value);
      expect(() => one.read(bytes)).to.throw(RangeError, String(value));
    }
    bytes.writeBigInt64BE(-(2n ** 53n));
    expect(() => signed.read(bytes)).to.throw(RangeError);
  });

  it('gives a mask64 whole', () => {
    const mask = struct('mask', 'be', 8, { value: [0, 'mask64'] });
    expect(mask.read(Buffer.alloc(8, 0xff)).value).to.equal(2n ** 64n - 1n);
  });

  it('that lies outside its buffer is refused', () => {
    const word = struct('word', 'be', 4, { value: [0, 'u32'] });
    expect(() => word.read(Buffer.alloc(3))).to.throw(
      RangeError,
      'word needs 4 bytes at 0, the buffer has 3',
    );
    expect(() => word.read(Buffer.alloc(8), 5)).to.throw(RangeError);
    expect(() => word.read(Buffer.alloc(8), -1)).to.throw(RangeError);
    expect(() => word.write(Buffer.alloc(8), 5, { value: 1 })).to.throw(RangeError);
  });

  it('never reaches beyond a buffer that is a part of a larger one', () => {
    const word = struct('word', 'be', 4, { value: [0, 'u32'] });
    const part = Buffer.from([9, 9, 1, 2, 3, 4, 9, 9]).subarray(2, 6);
    expect(word.read(part).value).to.equal(0x01020304);
    expect(() => word.read(part, 1)).to.throw(RangeError);
  });

  it('leaves the fields alone that are not given', () => {
    const pair = struct('pair', 'be', 4, { a: [0, 'u16'], b: [2, 'u16'] });
    const bytes = Buffer.from([1, 2, 3, 4]);
    pair.write(bytes, 0, { b: 0x0506 });
    expect([...bytes]).to.deep.equal([1, 2, 5, 6]);
  });

  it('ends text at its first NUL, and takes all of a field without one', () => {
    const text = struct('text', 'be', 4, { value: [0, 'text:4'] });
    expect(text.read(Buffer.from('ab\0c')).value).to.equal('ab');
    expect(text.read(Buffer.from('abcd')).value).to.equal('abcd');
    expect(textOf(Buffer.from('\0abc'))).to.equal('');
    expect(textOf(Buffer.from('d\u00e9j\u00e0'))).to.equal('d\u00e9j\u00e0');
  });

  it('clears the rest of a text or bytes field, and refuses what does not fit', () => {
    const both = struct('both', 'be', 8, { text: [0, 'text:4'], bytes: [4, 'bytes:4'] });
    const buffer = Buffer.alloc(8, 0xff);
    both.write(buffer, 0, { text: 'ab', bytes: Buffer.from([1]) });
    expect([...buffer]).to.deep.equal([97, 98, 0, 0, 1, 0, 0, 0]);
    expect(() => both.write(buffer, 0, { text: 'abcde' })).to.throw(RangeError);
    expect(() => both.write(buffer, 0, { bytes: Buffer.alloc(5) })).to.throw(RangeError);
  });

  it('gives bytes fields as copies', () => {
    const bytes = struct('bytes', 'be', 2, { value: [0, 'bytes:2'] });
    const buffer = Buffer.from([1, 2]);
    const { value } = bytes.read(buffer);
    buffer.fill(9);
    expect([...value]).to.deep.equal([1, 2]);
  });
});
