import { expect } from 'chai';
import { legacyAesSpec } from '../../../src/luks/legacy-aes.js';

function keyOf(secret: string): string {
  return Buffer.from(legacyAesSpec(Buffer.from(secret, 'latin1')).key).toString('latin1');
}

describe('legacy AES', () => {
  it('is AES-128-CBC with plain64', () => {
    const { key, ...rest } = legacyAesSpec(Buffer.from('x'));
    expect(rest).to.deep.equal({ cipher: 'aes', mode: 'cbc', iv: 'plain64' });
    expect(key.length).to.equal(16);
  });

  it('takes the first 16 bytes of the secret as the key', () => {
    expect(keyOf('abcdefghijklmnop')).to.equal('abcdefghijklmnop');
    expect(keyOf('abcdefghijklmnopqrstuvwxyz')).to.equal('abcdefghijklmnop');
  });

  it('fills a shorter secret up with zeros, a trailing newline being part of it', () => {
    expect(keyOf('abc\n')).to.equal(`abc\n${'\0'.repeat(12)}`);
    expect(keyOf('')).to.equal('\0'.repeat(16));
  });

  it('ends the secret at its first NUL byte, as QEMU does', () => {
    expect(keyOf('abc\0defghijklmnopq')).to.equal(`abc${'\0'.repeat(13)}`);
    expect(keyOf('abcdefghijklmnopq\0')).to.equal('abcdefghijklmnop');
    expect(keyOf('\0abc')).to.equal('\0'.repeat(16));
  });

  it('takes bytes that are no UTF-8', () => {
    expect(keyOf('\xff\xfe')).to.equal(`\xff\xfe${'\0'.repeat(14)}`);
  });
});
