import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { type BlockCipherName, blockPass, nodeBlockPass } from '../../../src/crypto/block-cipher.js';
import { opensslEcb } from '../../../src/host/openssl.js';

/** Published vectors: cipher, key, plain text, cipher text, source. */
const VECTORS: readonly [BlockCipherName, string, string, string, string][] = [
  [
    'aes',
    '000102030405060708090a0b0c0d0e0f',
    '00112233445566778899aabbccddeeff',
    '69c4e0d86a7b0430d8cdb78070b4c55a',
    'FIPS 197, C.1',
  ],
  [
    'serpent',
    '80000000000000000000000000000000',
    '00000000000000000000000000000000',
    '264e5481eff42a4606abda06c0bfda3d',
    'NESSIE, set 1, vector 0',
  ],
  [
    'serpent',
    '800000000000000000000000000000000000000000000000',
    '00000000000000000000000000000000',
    '9e274ead9b737bb21efcfca548602689',
    'NESSIE, set 1, vector 0',
  ],
  [
    'serpent',
    '8000000000000000000000000000000000000000000000000000000000000000',
    '00000000000000000000000000000000',
    'a223aa1288463c0e2be38ebd825616c0',
    'NESSIE, set 1, vector 0',
  ],
  [
    'twofish',
    '00000000000000000000000000000000',
    '00000000000000000000000000000000',
    '9f589f5cf6122c32b6bfec2f2ae8c35a',
    'the Twofish paper, B.2',
  ],
  [
    'twofish',
    '0123456789abcdeffedcba98765432100011223344556677',
    '00000000000000000000000000000000',
    'cfd1d2e5a9be9cdf501f13b892bd2248',
    'the Twofish paper, B.2',
  ],
  [
    'twofish',
    '0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff',
    '00000000000000000000000000000000',
    '37527be0052334b89f0cfccae87cfa20',
    'the Twofish paper, B.2',
  ],
  ['cast5', '0123456712345678234567893456789a', '0123456789abcdef', '238b4fe5847e44b2', 'RFC 2144, B.1'],
  [
    'sm4',
    '0123456789abcdeffedcba9876543210',
    '0123456789abcdeffedcba9876543210',
    '681edf34d206965e86b3e94f536e4246',
    'GB/T 32907-2016, A.1',
  ],
];

describe('a block cipher', () => {
  for (const [cipher, key, plain, encrypted, source] of VECTORS) {
    it(`${cipher} with ${key.length * 4} bits gives what ${source} says, in every block`, () => {
      const repeat = (hex: string) => Buffer.from(hex.repeat(37), 'hex');
      const blocks = repeat(plain);
      blockPass('encrypt', cipher, Buffer.from(key, 'hex'))(blocks, blocks.length);
      expect(blocks.toString('hex')).to.equal(repeat(encrypted).toString('hex'));
      blockPass('decrypt', cipher, Buffer.from(key, 'hex'))(blocks, blocks.length);
      expect(blocks.toString('hex')).to.equal(repeat(plain).toString('hex'));
    });
  }

  for (const [algorithm, bytes] of [
    ['aes-128', 16],
    ['aes-192', 24],
    ['aes-256', 32],
    ['sm4', 16],
  ] as const) {
    it(`is ${algorithm} of the OpenSSL that Node runs on, and the same from node:crypto where that is not to be had`, () => {
      const key = randomBytes(bytes);
      for (const direction of ['encrypt', 'decrypt'] as const) {
        const direct = opensslEcb(direction, algorithm, key);
        expect(direct).not.to.equal(undefined);
        const blocks = randomBytes(4096);
        const other = Buffer.from(blocks);
        direct!(blocks, 1024);
        nodeBlockPass(direction, algorithm, key)(other, 1024);
        expect(blocks.equals(other)).to.equal(true);
      }
    });
  }
});
