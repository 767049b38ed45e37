/** What is damaged, merged and bounded, and as a mapfile of ddrescue. */

import { expect } from 'chai';
import { DamagedRanges } from '../../src/damaged-ranges.js';
import { formatErrorMap } from '../../src/error-map.js';
import { Random } from '../support/random.js';

const list = (ranges: DamagedRanges): [number, number, boolean][] =>
  [...ranges].map(({ offset, length, coarse }) => [offset, offset + length, coarse]);

function rangesOf(...added: readonly (readonly [number, number, boolean?])[]): DamagedRanges {
  const ranges = new DamagedRanges();
  for (const [start, end, coarse] of added) ranges.add(start, end - start, coarse ?? false);
  return ranges;
}

describe('damaged ranges', () => {
  it('are in order, and neighbours are one', () => {
    expect(list(rangesOf([10, 20], [40, 50], [0, 5], [20, 30], [5, 10]))).to.deep.equal([
      [0, 30, false],
      [40, 50, false],
    ]);
  });

  it('that overlap are one', () => {
    expect(list(rangesOf([10, 20], [30, 40], [15, 35], [0, 100]))).to.deep.equal([[0, 100, false]]);
  });

  it('are coarse where a part is', () => {
    expect(list(rangesOf([10, 20], [20, 30, true], [50, 60]))).to.deep.equal([
      [10, 30, true],
      [50, 60, false],
    ]);
  });

  it('tell whether there is anything new', () => {
    const ranges = rangesOf([10, 20]);
    expect([ranges.add(12, 5, false), ranges.add(12, 5, true), ranges.add(12, 20, false)]).to.deep.equal([
      false,
      true,
      true,
    ]);
  });

  it('are the same as marks on every byte, in whatever order they come', () => {
    const random = new Random(7);
    for (let round = 0; round < 50; round++) {
      const ranges = new DamagedRanges();
      const marks = new Uint8Array(200);
      for (let i = 0; i < 30; i++) {
        const offset = random.below(180);
        const length = 1 + random.below(20);
        ranges.add(offset, length, false);
        marks.fill(1, offset, offset + length);
      }
      const painted = new Uint8Array(200);
      for (const { offset, length } of ranges) painted.fill(1, offset, offset + length);
      expect(painted).to.deep.equal(marks);
      const found = list(ranges);
      for (let i = 1; i < found.length; i++) expect(found[i]![0]).to.be.above(found[i - 1]![1]);
    }
  });

  it('take the nearest ones for one, coarse, when they are too many', () => {
    const ranges = new DamagedRanges(3);
    for (const offset of [0, 100, 1000, 130]) ranges.add(offset, 10, false);
    expect(list(ranges)).to.deep.equal([
      [0, 10, false],
      [100, 140, true],
      [1000, 1010, false],
    ]);
    for (let i = 0; i < 1000; i++) ranges.add(i * 50, 1, false);
    expect(ranges.count).to.equal(3);
  });
});

describe('an error map', () => {
  const lines = (size: number, tried: number, ranges: DamagedRanges): string[] =>
    formatErrorMap({ size, tried, damaged: ranges, title: 'test' })
      .trimEnd()
      .split('\n')
      .filter((line) => !line.startsWith('#'))
      .map((line) => line.replaceAll(/ +/g, ' '));

  it('covers the disk in order', () => {
    expect(lines(0x1000, 0x1000, rangesOf([0x200, 0x400], [0x800, 0xa00, true]))).to.deep.equal([
      '0x00001000 + 1',
      '0x00000000 0x00000200 +',
      '0x00000200 0x00000200 -',
      '0x00000400 0x00000400 +',
      '0x00000800 0x00000200 /',
      '0x00000A00 0x00000600 +',
    ]);
  });

  it('tells what was not tried', () => {
    expect(lines(0x1000, 0x600, rangesOf([0x200, 0x400], [0x800, 0xa00]))).to.deep.equal([
      '0x00000600 ? 1',
      '0x00000000 0x00000200 +',
      '0x00000200 0x00000200 -',
      '0x00000400 0x00000200 +',
      '0x00000600 0x00000200 ?',
      '0x00000800 0x00000200 -',
      '0x00000A00 0x00000600 ?',
    ]);
  });

  it('of a disk that is damaged from end to end has one range', () => {
    expect(lines(0x1000, 0x1000, rangesOf([0, 0x1000])).slice(1)).to.deep.equal(['0x00000000 0x00001000 -']);
  });

  it('begins as the mapfiles of ddrescue do', () => {
    expect(formatErrorMap({ size: 0, tried: 0, damaged: [], title: 'x' })).to.match(/^# Mapfile\. x\n/);
  });
});
