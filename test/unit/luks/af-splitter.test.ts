import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { DIGEST_BYTES, type HashName } from '../../../src/crypto/hash.js';
import { mergeStripes } from '../../../src/luks/af-splitter.js';
import { splitKey } from './luks-volume.js';

describe('the anti-forensic splitter', () => {
  for (const hash of Object.keys(DIGEST_BYTES) as HashName[]) {
    it(`gives back keys of every size that ${hash} split`, () => {
      for (const bytes of [16, 24, 32, 48, 64]) {
        const key = randomBytes(bytes);
        const material = splitKey(key, hash, 50);
        expect(mergeStripes(material, bytes, 50, hash).equals(key), `${bytes} bytes`).to.equal(true);
        material[bytes * 7 + 3]! ^= 1;
        expect(mergeStripes(material, bytes, 50, hash).equals(key), 'one bit changed').to.equal(false);
      }
    });
  }

  it('leaves a single stripe as it is', () => {
    const key = randomBytes(32);
    expect(mergeStripes(key, 32, 1, 'sha256').equals(key)).to.equal(true);
  });

  it('refuses material that is too short', () => {
    expect(() => mergeStripes(Buffer.alloc(63), 32, 2, 'sha256')).to.throw('hold no 2 stripes');
  });
});
