import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { DIGEST_BYTES, hashNamed } from '../../../src/crypto/hash.js';
import { Qcow2fsError } from '../../../src/errors.js';

describe('hash names', () => {
  it('are those of QEMU, with the digest sizes that OpenSSL gives', () => {
    for (const [name, bytes] of Object.entries(DIGEST_BYTES)) {
      expect(createHash(hashNamed(name)).digest().length, name).to.equal(bytes);
    }
    expect(Object.keys(DIGEST_BYTES)).to.have.length(8);
  });

  it('give the digest of GB/T 32905-2016, A.1, for sm3', () => {
    expect(createHash(hashNamed('sm3')).update('abc').digest('hex')).to.equal(
      '66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0',
    );
  });

  it('are compared byte for byte', () => {
    for (const name of ['SHA256', 'sha-256', 'sha256 ', '', 'whirlpool', 'toString', '__proto__']) {
      expect(() => hashNamed(name), name)
        .to.throw(Qcow2fsError, JSON.stringify(name))
        .with.property('kind', 'unsupported');
    }
  });
});
