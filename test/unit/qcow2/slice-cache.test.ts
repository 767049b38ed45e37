import { expect } from 'chai';
import { allocateSliceCache, SliceCache } from '../../../src/qcow2/slice-cache.js';

const SLICE = 512;

describe('the slice cache', () => {
  const cacheOf = (slots: number): SliceCache =>
    new SliceCache(allocateSliceCache(SLICE, 2 ** 40, slots * SLICE), SLICE);

  function bring(cache: SliceCache, key: number): void {
    const slot = cache.victim(key);
    expect(slot, `a slot for ${key}`).to.be.at.least(0);
    cache.assign(slot, key);
  }

  const found = (cache: SliceCache, keys: readonly number[]): number =>
    keys.filter((key) => cache.lookup(key) !== -1).length;

  it('holds as many slices as it has room for, when they follow each other', () => {
    const cache = cacheOf(4096);
    const keys = Array.from({ length: 4096 }, (_, i) => 12_345 + i);
    for (const key of keys) bring(cache, key);
    expect(found(cache, keys)).to.be.above(0.9 * keys.length);
  });

  it('holds a quarter of that wherever they lie: a power of 2 apart, and beyond 2^32', () => {
    for (const stride of [2, 16, 512, 2 ** 11, 2 ** 15, 2 ** 20, 2 ** 31, 2 ** 34]) {
      const cache = cacheOf(4096);
      const keys = Array.from({ length: 1024 }, (_, i) => i * stride);
      for (const key of keys) bring(cache, key);
      expect(found(cache, keys), `stride ${stride}`).to.be.above(0.9 * keys.length);
    }
  });

  it('works with a single set', () => {
    const cache = cacheOf(4);
    const keys = [7, 2 ** 33, 3, 5];
    for (const key of keys) bring(cache, key);
    expect(found(cache, keys)).to.equal(4);
    bring(cache, 11);
    expect(cache.lookup(11)).to.be.at.least(0);
    expect(found(cache, keys)).to.equal(3);
  });

  it('never gives up a slice that differs from the file', () => {
    const cache = cacheOf(4);
    for (const key of [1, 2, 3, 4]) {
      bring(cache, key);
      cache.markDirty(cache.lookup(key));
    }
    expect(cache.victim(5)).to.equal(-1);
    cache.markClean(cache.lookup(3));
    expect(cache.keyOf(cache.victim(5))).to.equal(3);
  });
});
