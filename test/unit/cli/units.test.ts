import { expect } from 'chai';
import { parseBytes } from '../../../src/cli/units.js';
import { expectError } from '../support/errors.js';

describe('a number of bytes on the command line', () => {
  for (const [text, bytes] of [
    ['0', 0],
    ['4096', 4096],
    ['512B', 512],
    ['64K', 65_536],
    ['64k', 65_536],
    ['1M', 1_048_576],
    ['1MiB', 1_048_576],
    ['1MB', 1_000_000],
    ['1.5K', 1536],
    ['2TiB', 2_199_023_255_552],
  ] as const) {
    it(`${text} is ${bytes}`, () => {
      expect(parseBytes(text, '--size')).to.equal(bytes);
    });
  }

  for (const text of ['', 'M', '-1', '1X', '1 M', '0.3', '1e6', '0x10', '99999P']) {
    it(`"${text}" is none`, () => {
      expectError('usage', ['--size'], () => parseBytes(text, '--size'));
    });
  }
});
