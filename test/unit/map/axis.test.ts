import { expect } from 'chai';
import { percent, ticks } from '../../../src/map/axis.js';

const GIB = 2 ** 30;

describe('the axis of a map', () => {
  it('has marks at powers of two of a unit, no more than there is room for', () => {
    expect(ticks(64 * GIB, 4)).to.deep.equal([0, 16 * GIB, 32 * GIB, 48 * GIB]);
    expect(ticks(50 * GIB, 4)).to.deep.equal([0, 16 * GIB, 32 * GIB, 48 * GIB]);
    expect(ticks(GIB + 512, 4)).to.deep.equal([0, GIB / 2, GIB]);
    expect(ticks(0, 4)).to.deep.equal([0]);
    for (let most = 1; most < 20; most++) expect(ticks(12_345_678, most).length).to.be.within(1, most);
  });

  it('has parts that are 0% or 100% only where they are', () => {
    expect(percent(0, 1000)).to.equal('0%');
    expect(percent(1, 1e6)).to.equal('<0.1%');
    expect(percent(125, 1000)).to.equal('12.5%');
    expect(percent(999_999, 1e6)).to.equal('99.9%');
    expect(percent(7, 7)).to.equal('100%');
    expect(percent(0, 0)).to.equal('0%');
  });
});
