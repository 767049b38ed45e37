import { expect } from 'chai';
import { humanBytes, jsonText, table } from '../../../src/cli/output.js';
import { printable, printableJson } from '../../../src/printable.js';

describe('what is printed', () => {
  it('holds no control characters of an image', () => {
    expect(printable('a\x1b[2J\n\t\x7f\x9b\u2028\u202e\u2066')).to.equal(
      'a\\u001b[2J\\u000a\\u0009\\u007f\\u009b\\u2028\\u202e\\u2066',
    );
    expect(printable('d\u00e9j\u00e0 \u{1f4be} \\')).to.equal('d\u00e9j\u00e0 \u{1f4be} \\');
    expect(printable('\u{e0041}')).to.equal('\\udb40\\udc41');
  });

  it('holds none of them as JSON either, and says the same', () => {
    const value = { name: 'a\x1b\n\t\x7f\x9b\u2028\u202e\u2066\u{e0041}"\\\u{1f4be}', list: [1, 'd\u00e9'] };
    for (const text of [printableJson(value), printableJson(value, 2)]) {
      expect(text.replaceAll('\n', '')).not.to.match(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      expect(JSON.parse(text)).to.deep.equal(value);
      expect(text).to.contain('\u{1f4be}').and.contain('d\u00e9');
    }
  });

  it('has sizes in the unit that fits', () => {
    const sizes = [0, 1, 1023, 1024, 1536, 65536, 2 ** 20, 1.5 * 2 ** 30, 2 ** 40, 2 ** 50];
    expect(sizes.map(humanBytes)).to.deep.equal([
      '0 bytes',
      '1 bytes',
      '1023 bytes',
      '1 KiB',
      '1.5 KiB',
      '64 KiB',
      '1 MiB',
      '1.5 GiB',
      '1 TiB',
      '1 PiB',
    ]);
    expect(humanBytes(2 ** 60)).to.equal('1024 PiB');
    expect(humanBytes(1048575)).to.equal('1024 KiB');
    expect(humanBytes(1234567)).to.equal('1.18 MiB');
  });

  it('has columns as wide as their widest cell, and no blanks at line ends', () => {
    expect(
      table([
        ['a', 'bbb', 'c'],
        ['aaaa', 'b', 'cc'],
      ]),
    ).to.equal('a     bbb  c\naaaa  b    cc');
    expect(table([['a'], ['bb']])).to.equal('a\nbb');
    expect(table([])).to.equal('');
  });

  it('has no column wider than a screen: a wider cell moves its own line', () => {
    const wide = 'w'.repeat(1000);
    const lines = table([
      [wide, 'b'],
      ['a', 'b'],
    ]).split('\n');
    expect(lines).to.deep.equal([`${wide}  b`, `${'a'.padEnd(100)}  b`]);
  });

  it('has JSON that is printed a part at a time, and is that of JSON.stringify', () => {
    const value = {
      list: [{ a: [1, 2], b: {} }, 'x\n', null],
      none: [],
      object: { deep: [{ c: '"' }] },
      text: '\u0001',
    };
    expect(jsonText('info', value)).to.equal(JSON.stringify({ schema: 'qcow2fs/info/1', ...value }, null, 2));
  });
});
