import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import { BLOCK_CIPHERS, type BlockCipherName, hasKeysOf } from '../../../src/crypto/block-cipher.js';
import type { HashName } from '../../../src/crypto/hash.js';
import { createSectorCipher, MODES, type SectorCipherSpec } from '../../../src/crypto/sector-cipher.js';
import { Qcow2fsError } from '../../../src/errors.js';
import { lane } from '../../support/lane.js';
import { referenceEncrypt } from './reference.js';

const IVS: readonly Pick<SectorCipherSpec, 'iv' | 'ivHash'>[] = [
  { iv: 'plain' },
  { iv: 'plain64' },
  { iv: 'essiv', ivHash: 'md5' },
  { iv: 'essiv', ivHash: 'sha256' },
];

/** All that there are for these IVs. */
function everySpec(): SectorCipherSpec[] {
  const specs: SectorCipherSpec[] = [];
  for (const [cipher, { blockBytes, keyBytes }] of Object.entries(BLOCK_CIPHERS)) {
    const name = cipher as BlockCipherName;
    for (const mode of MODES.filter((each) => each !== 'xts' || blockBytes === 16)) {
      for (const bytes of keyBytes) {
        for (const iv of IVS) {
          if (iv.ivHash === 'sha256' && !hasKeysOf(name, 32)) continue;
          specs.push({ cipher: name, mode, ...iv, key: randomBytes(mode === 'xts' ? 2 * bytes : bytes) });
        }
      }
    }
  }
  return specs;
}

function nameOf({ cipher, mode, iv, ivHash, key }: SectorCipherSpec): string {
  const bits = mode === 'xts' ? key.length * 4 : key.length * 8;
  return `${cipher}-${bits}-${mode}-${iv}${ivHash === undefined ? '' : `:${ivHash}`}`;
}

/** Encrypts and decrypts in a larger buffer and returns what is there; nothing around may change. */
function expectRoundTrip(spec: SectorCipherSpec, sectors: number, offset: number, firstSector: number): void {
  const cipher = createSectorCipher(spec);
  const plain = randomBytes(sectors * 512);
  const room = randomBytes(offset + plain.length + 37);
  plain.copy(room, offset);
  const expected = Buffer.from(room);
  referenceEncrypt(spec, plain, firstSector).copy(expected, offset);

  const what = `${sectors} sectors at byte ${offset} from sector ${firstSector}`;
  const buffer = Buffer.from(room);
  cipher.encrypt(buffer, offset, plain.length, firstSector);
  expect(buffer.equals(expected), `encryption of ${what}`).to.equal(true);
  cipher.decrypt(buffer, offset, plain.length, firstSector);
  expect(buffer.equals(room), `decryption of ${what}`).to.equal(true);
}

function errorOf(action: () => unknown): Qcow2fsError {
  try {
    action();
  } catch (error) {
    if (error instanceof Qcow2fsError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a sector cipher', () => {
  for (const spec of everySpec().filter((_, index) => index % lane(1, 1, 3) === 0)) {
    it(`${nameOf(spec)} gives the bytes of a cipher that works sector by sector`, () => {
      const isAes = spec.cipher === 'aes';
      for (const sectors of isAes ? [1, 2, 8, 31, 32, 33, 64, 65, 520] : [1, 2, 8, 130]) {
        expectRoundTrip(spec, sectors, 0, 12345);
      }
      for (const offset of isAes ? [1, 2, 4, 512] : [3]) expectRoundTrip(spec, 33, offset, 7);
      if (isAes) expectRoundTrip(spec, 513, 3, 7);
    });

    it(`${nameOf(spec)} keeps the bytes of sector numbers beyond 32 bits`, () => {
      for (const first of [2 ** 31 - 3, 2 ** 32 - 70, 2 ** 32 + 5, 2 ** 44 - 1]) {
        expectRoundTrip(spec, spec.cipher === 'aes' ? 140 : 4, 0, first);
      }
    });
  }

  for (const spec of everySpec().filter(({ iv }) => iv === 'plain64')) {
    it(`${nameOf(spec)} gives the same in its own memory as elsewhere`, () => {
      const cipher = createSectorCipher(spec);
      for (const sectors of [1, 8, 128]) {
        const plain = randomBytes(sectors * 512);
        plain.copy(cipher.work);
        cipher.encrypt(cipher.work, 0, plain.length, 99);
        const encrypted = Buffer.from(cipher.work.subarray(0, plain.length));
        expect(encrypted.equals(referenceEncrypt(spec, plain, 99)), `${sectors} sectors`).to.equal(true);
        encrypted.copy(cipher.work);
        cipher.decrypt(cipher.work, 0, plain.length, 99);
        expect(cipher.work.subarray(0, plain.length).equals(plain), `${sectors} sectors`).to.equal(true);
      }
    });
  }

  it('gives the ciphertext of IEEE 1619 for AES-128-XTS (vectors 4 and 5)', () => {
    const key = Buffer.from('2718281828459045235360287471352631415926535897932384626433832795', 'hex');
    const cipher = createSectorCipher({ cipher: 'aes', mode: 'xts', iv: 'plain64', key });
    const data = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff));
    cipher.encrypt(data, 0, 512, 0);
    expect(data.toString('hex', 0, 32)).to.equal(
      '27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c',
    );
    cipher.encrypt(data, 0, 512, 1);
    expect(data.toString('hex', 0, 32)).to.equal(
      '264d3ca8512194fec312c8c9891f279fefdd608d0c027b60483a3fa811d65ee5',
    );
  });

  it('gives the ciphertext of IEEE 1619 for AES-256-XTS (vector 10)', () => {
    const key = Buffer.from(
      '2718281828459045235360287471352662497757247093699959574966967627' +
        '3141592653589793238462643383279502884197169399375105820974944592',
      'hex',
    );
    const cipher = createSectorCipher({ cipher: 'aes', mode: 'xts', iv: 'plain64', key });
    const data = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff));
    cipher.encrypt(data, 0, 512, 0xff);
    expect(data.toString('hex', 0, 32)).to.equal(
      '1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b',
    );
  });

  it('wraps plain after 2^32 sectors, and does not wrap plain64', () => {
    const key = randomBytes(64);
    const at = (iv: 'plain' | 'plain64', sector: number) => {
      const data = Buffer.alloc(512);
      createSectorCipher({ cipher: 'aes', mode: 'xts', iv, key }).encrypt(data, 0, 512, sector);
      return data.toString('hex');
    };
    expect(at('plain', 2 ** 32 + 9)).to.equal(at('plain', 9));
    expect(at('plain64', 2 ** 32 + 9)).not.to.equal(at('plain64', 9));
    expect(at('plain64', 9)).to.equal(at('plain', 9));
  });

  it('can be made in another thread from a cloned specification', () => {
    for (const spec of everySpec()) expectRoundTrip(structuredClone(spec), 9, 0, 1);
  });

  it('works on shared memory', () => {
    const spec: SectorCipherSpec = { cipher: 'aes', mode: 'xts', iv: 'plain64', key: randomBytes(64) };
    const plain = randomBytes(70 * 512);
    for (const offset of [0, 3]) {
      const shared = Buffer.from(new SharedArrayBuffer(plain.length + offset));
      plain.copy(shared, offset);
      createSectorCipher(spec).encrypt(shared, offset, plain.length, 5);
      expect(shared.subarray(offset).equals(referenceEncrypt(spec, plain, 5))).to.equal(true);
    }
  });

  it('does nothing for no sectors', () => {
    for (const spec of everySpec()) {
      const data = randomBytes(512);
      const before = Buffer.from(data);
      createSectorCipher(spec).decrypt(data, 512, 0, 0);
      expect(data.equals(before)).to.equal(true);
    }
  });

  it('refuses parts of a sector, and ranges outside the buffer', () => {
    const cipher = createSectorCipher({ cipher: 'aes', mode: 'cbc', iv: 'plain64', key: randomBytes(16) });
    const data = Buffer.alloc(2048);
    for (const [start, length, sector] of [
      [0, 511, 0],
      [0, 16, 0],
      [-512, 512, 0],
      [1, 2048, 0],
      [0, 4096, 0],
      [0, -512, 0],
      [0.5, 512, 0],
      [0, 512, -1],
      [0, 512, 0.5],
      [0, Number.NaN, 0],
      [0, 512, Number.NaN],
      [0, 512, 2 ** 53],
    ] as const) {
      expect(errorOf(() => cipher.decrypt(data, start, length, sector)).kind).to.equal('internal');
      expect(errorOf(() => cipher.encrypt(data, start, length, sector)).kind).to.equal('internal');
    }
    expect(data.equals(Buffer.alloc(2048))).to.equal(true);
  });

  for (const [mode, sizes] of [
    ['xts', [0, 16, 24, 33, 63, 128]],
    ['cbc', [0, 15, 48, 64]],
    ['ecb', [0, 17, 64]],
    ['ctr', [0, 31, 64]],
  ] as const) {
    it(`refuses keys that ${mode} cannot have`, () => {
      for (const size of sizes) {
        const key = Buffer.alloc(size);
        const error = errorOf(() => createSectorCipher({ cipher: 'aes', mode, iv: 'plain64', key }));
        expect(error.kind).to.equal('unsupported');
        expect(error.message).to.equal(`aes-${mode} has no keys of ${size} bytes`);
      }
    });
  }

  it('refuses XTS with a cipher of small blocks, and keys that a cipher does not have', () => {
    const refusal = (cipher: BlockCipherName, mode: SectorCipherSpec['mode'], size: number) =>
      errorOf(() => createSectorCipher({ cipher, mode, iv: 'plain64', key: Buffer.alloc(size) })).message;
    expect(refusal('cast5', 'xts', 32)).to.equal('cast5-xts does not exist: XTS needs blocks of 16 bytes');
    expect(refusal('cast5', 'cbc', 8)).to.equal('cast5-cbc has no keys of 8 bytes');
    expect(refusal('sm4', 'xts', 64)).to.equal('sm4-xts has no keys of 64 bytes');
    expect(refusal('serpent', 'ctr', 20)).to.equal('serpent-ctr has no keys of 20 bytes');
  });

  it('refuses ESSIV with a digest that is no AES key, and without a hash', () => {
    for (const ivHash of ['sha1', 'sha224', 'sha384', 'sha512', 'ripemd160'] as HashName[]) {
      const spec: SectorCipherSpec = {
        cipher: 'aes',
        mode: 'cbc',
        iv: 'essiv',
        ivHash,
        key: Buffer.alloc(16),
      };
      const error = errorOf(() => createSectorCipher(spec));
      expect(error.kind).to.equal('unsupported');
      expect(error.message).to.include(`essiv:${ivHash}`);
    }
    const error = errorOf(() =>
      createSectorCipher({ cipher: 'aes', mode: 'cbc', iv: 'essiv', key: Buffer.alloc(16) }),
    );
    expect(error.kind).to.equal('unsupported');
  });
});
