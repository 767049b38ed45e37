import { expect } from 'chai';
import { describeCipher, sectorCipherSpec } from '../../../src/luks/cipher.js';
import { expectError } from '../support/errors.js';

function spec(cipherName: string, cipherMode: string, keyBytes: number): unknown {
  const key = Buffer.alloc(1);
  const { key: given, ...rest } = sectorCipherSpec({ cipherName, cipherMode, keyBytes }, key);
  expect(given).to.equal(key);
  return rest;
}

describe('the cipher of a LUKS header', () => {
  it('is what its texts say', () => {
    expect(spec('aes', 'xts-plain64', 64)).to.deep.equal({ cipher: 'aes', mode: 'xts', iv: 'plain64' });
    expect(spec('aes', 'cbc-plain', 16)).to.deep.equal({ cipher: 'aes', mode: 'cbc', iv: 'plain' });
    expect(spec('aes', 'cbc-essiv:sha256', 24)).to.deep.equal({
      cipher: 'aes',
      mode: 'cbc',
      iv: 'essiv',
      ivHash: 'sha256',
    });
    expect(spec('aes', 'ecb-plain64', 32)).to.deep.equal({ cipher: 'aes', mode: 'ecb', iv: 'plain64' });
  });

  it('ignores a hash after plain and plain64, which must exist', () => {
    expect(spec('aes', 'xts-plain64:sha512', 64)).to.deep.equal({
      cipher: 'aes',
      mode: 'xts',
      iv: 'plain64',
    });
    expectError('unsupported', ['"nonsense"'], () => spec('aes', 'xts-plain64:nonsense', 64));
    expectError('unsupported', ['""'], () => spec('aes', 'xts-plain:', 64));
  });

  it('may be any that QEMU knows', () => {
    expect(spec('serpent', 'xts-plain64', 48)).to.include({ cipher: 'serpent', mode: 'xts' });
    expect(spec('twofish', 'cbc-essiv:sha256', 24)).to.include({ cipher: 'twofish', ivHash: 'sha256' });
    expect(spec('cast5', 'ctr-essiv:md5', 16)).to.include({ cipher: 'cast5', mode: 'ctr' });
    expect(spec('sm4', 'ecb-plain', 16)).to.include({ cipher: 'sm4', mode: 'ecb' });
  });

  for (const [cipher, mode] of [
    ['camellia', 'xts-plain64'],
    ['des', 'cbc-plain64'],
    ['aes', 'lrw-benbi'],
    ['AES', 'xts-plain64'],
    ['toString', 'xts-plain64'],
  ] as const) {
    it(`is refused by name when it is ${cipher}-${mode}`, () => {
      expectError('unsupported', [`cipher ${cipher}-${mode} is not supported`], () => spec(cipher, mode, 32));
    });
  }

  it('is refused by name for unknown hashes and IV generators', () => {
    expectError('unsupported', ['"whirlpool"'], () => spec('aes', 'cbc-essiv:whirlpool', 32));
    expectError('unsupported', ['essiv:sha1'], () => spec('aes', 'cbc-essiv:sha1', 32));
    expectError('unsupported', ['"plain64be"'], () => spec('aes', 'xts-plain64be', 64));
    expectError('unsupported', ['"benbi"'], () => spec('aes', 'cbc-benbi', 32));
  });

  it('is refused when the mode names no IV generator, or essiv no hash', () => {
    expectError('format', ['"cbc"'], () => spec('aes', 'cbc', 32));
    expectError('format', ['essiv'], () => spec('aes', 'cbc-essiv', 32));
  });

  it('is refused for keys it cannot have', () => {
    for (const [mode, bytes] of [
      ['xts-plain64', 16],
      ['xts-plain64', 0xffffffff],
      ['cbc-plain64', 0],
      ['cbc-plain64', 64],
    ] as const) {
      expectError('unsupported', [`keys of ${bytes} bytes`], () => spec('aes', mode, bytes));
    }
  });

  it('is described even when it is unknown', () => {
    const describe = (cipherName: string, cipherMode: string, keyBytes: number) =>
      describeCipher({ cipherName, cipherMode, keyBytes });
    expect(describe('serpent', 'xts-plain64', 64)).to.deep.equal({
      cipher: 'serpent',
      mode: 'xts',
      ivGenerator: 'plain64',
      ivHash: undefined,
      keyBits: 256,
    });
    expect(describe('aes', 'cbc-essiv:sha256', 16)).to.deep.equal({
      cipher: 'aes',
      mode: 'cbc',
      ivGenerator: 'essiv',
      ivHash: 'sha256',
      keyBits: 128,
    });
    expect(describe('', '', 0)).to.deep.equal({
      cipher: '',
      mode: '',
      ivGenerator: undefined,
      ivHash: undefined,
      keyBits: 0,
    });
  });
});
