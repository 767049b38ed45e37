/** The choice of variants that stand for all. */
import { expect } from 'chai';
import { pairsCovered, pairwise } from '../../support/pairwise.js';
import { variants } from '../../support/variants.js';

describe('a few variants that stand for all', () => {
  it('have most pairs of properties that occur', () => {
    expect(pairsCovered(pairwise(variants, 25), variants)).to.be.above(0.85);
    expect(pairsCovered(pairwise(variants, 8), variants)).to.be.above(0.6);
  });

  it('are as many as asked for, in their order', () => {
    const chosen = pairwise(variants, 25);
    expect(chosen).to.have.length(25);
    expect(chosen).to.deep.equal(variants.filter((variant) => chosen.includes(variant)));
    expect(pairwise(variants, variants.length)).to.equal(variants);
  });
});
