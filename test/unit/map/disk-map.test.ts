import { expect } from 'chai';
import { DiskMap } from '../../../src/map/disk-map.js';
import { expectError } from '../support/errors.js';
import { FakeDisk } from '../support/fake-disk.js';

/** Data and zeros in turn. */
const stripes = (count: number): FakeDisk => new FakeDisk(new Array<number>(count).fill(512));

describe('the map of a disk', () => {
  it('has all runs, a few at a time', () => {
    let runs = 0;
    const map = new DiskMap(
      stripes(100),
      () => null,
      () => runs++,
      100,
    );
    let turns = 1;
    while (!map.advance(30)) turns++;
    expect([runs, turns]).to.deep.equal([100, 4]);
  });

  it('of more runs than can be shown is refused', () => {
    const map = new DiskMap(
      stripes(100),
      () => null,
      () => {},
      99,
    );
    expectError('unsupported', ['more runs than can be shown', 'qcow2fs check'], () => {
      while (!map.advance(30));
    });
  });
});
