import { expect } from 'chai';
import { TOO_FAR } from '../../../src/hash/claims.js';
import { allocateRing, Ring } from '../../../src/hash/ring.js';

const SLOTS = 2;

describe('parts of a disk on their way to two threads that hash', () => {
  function ringWith(parts: number): Ring {
    return new Ring(allocateRing(parts, 512, SLOTS, 2));
  }

  it('keep their slots until both threads have hashed them', () => {
    const ring = ringWith(4);
    for (const part of [0, 1]) {
      expect(ring.claims.claim()).to.equal(part);
      ring.publish(part, false);
    }
    expect(ring.claims.claim()).to.equal(TOO_FAR);
    expect(ring.release(0)).to.equal(false);
    expect(ring.claims.claim()).to.equal(TOO_FAR);
    expect(ring.release(0)).to.equal(true);
    expect(ring.claims.claim()).to.equal(2);
    expect(ring.claims.claim()).to.equal(TOO_FAR);
  });

  it('are not ready while their slots hold earlier ones', () => {
    const ring = ringWith(4);
    expect(ring.isReady(0)).to.equal(false);
    ring.publish(ring.claims.claim(), true);
    expect([ring.isReady(0), ring.isZero(0)]).to.deep.equal([true, true]);
    for (let thread = 0; thread < 2; thread++) ring.release(0);
    const later = SLOTS;
    expect([ring.claims.claim(), ring.claims.claim()]).to.deep.equal([1, later]);
    expect(ring.isReady(later)).to.equal(false);
    ring.publish(later, false);
    expect([ring.isReady(later), ring.isZero(later)]).to.deep.equal([true, false]);
  });
});
