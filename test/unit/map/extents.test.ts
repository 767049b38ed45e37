import { expect } from 'chai';
import { ExtentMerger, type MapExtent, type MergeRule } from '../../../src/map/extents.js';

const DATA: MapExtent = {
  start: 0,
  length: 10,
  depth: 0,
  present: true,
  zero: false,
  data: true,
  compressed: false,
  shared: false,
  problem: undefined,
  offset: 100,
};
const NEXT: MapExtent = { ...DATA, start: 10, length: 5, offset: 110 };

function merged(rule: MergeRule, ...extents: readonly MapExtent[]): MapExtent[] {
  const all: MapExtent[] = [];
  const merger = new ExtentMerger(rule, (extent) => all.push(extent));
  for (const extent of extents) merger.add(extent);
  merger.end();
  return all;
}

describe('runs of a disk', () => {
  it('merge where they lie together and are stored alike', () => {
    const third = { ...NEXT, start: 15, length: 1, offset: 115 };
    expect(merged('all', DATA, NEXT, third)).to.deep.equal([{ ...DATA, length: 16 }]);
  });

  it('merge without a place, too', () => {
    const nowhere = { offset: undefined };
    expect(merged('all', { ...DATA, ...nowhere }, { ...NEXT, ...nowhere })).to.deep.equal([
      { ...DATA, ...nowhere, length: 15 },
    ]);
  });

  const differences: readonly Partial<MapExtent>[] = [
    { depth: 1 },
    { present: false },
    { zero: true },
    { data: false },
    { compressed: true },
    { problem: 'bad' },
    { offset: 111 },
    { offset: 109 },
    { offset: undefined },
  ];
  for (const difference of differences) {
    it(`stay apart where the second has ${JSON.stringify(difference)}`, () => {
      const next = { ...NEXT, ...difference };
      for (const rule of ['all', 'like-qemu'] as const) {
        expect(merged(rule, DATA, next)).to.deep.equal([DATA, next]);
        const before = { ...DATA, ...difference };
        const after = { ...NEXT, offset: 500 };
        expect(merged(rule, before, after)).to.deep.equal([before, after]);
      }
    });
  }

  it('merge over what is shared only as QEMU does it', () => {
    const shared = { ...NEXT, shared: true };
    expect(merged('all', DATA, shared)).to.deep.equal([DATA, shared]);
    expect(merged('like-qemu', DATA, shared)).to.deep.equal([{ ...DATA, length: 15 }]);
  });

  it('are none of nothing', () => {
    expect(merged('all')).to.deep.equal([]);
  });
});
