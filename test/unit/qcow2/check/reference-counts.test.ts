import { expect } from 'chai';
import { ReferenceCounts } from '../../../../src/qcow2/check/reference-counts.js';
import { expectError } from '../../support/errors.js';

describe('reference counts', () => {
  it('take no more memory than they may', () => {
    const counts = new ReferenceCounts('/image', 2);
    counts.add(0, 1, 'header');
    counts.add(2 ** 40, 1, 'data cluster');
    expectError('unsupported', ['/image', 'qemu-img check'], () => counts.add(2 ** 41, 1, 'data cluster'));
  });

  it('let only L2 tables and data be shared', () => {
    const counts = new ReferenceCounts('/image');
    expect(counts.add(1, 1, 'L2 table')).to.equal(undefined);
    expect(counts.add(1, 2, 'L2 table')).to.equal(undefined);
    expect(counts.add(1, 1, 'data cluster')).to.equal('L2 table');
    expect(counts.add(2, 1, 'refcount block')).to.equal(undefined);
    expect(counts.add(2, 1, 'refcount block')).to.equal('refcount block');
    expect([1, 2, 3].map((cluster) => counts.count(cluster))).to.deep.equal([4, 2, 0]);
    expect([1, 2, 1].map((cluster) => counts.takeTable(cluster))).to.deep.equal([3, 0, 0]);
    expect(counts.end).to.equal(3);
  });
});
