/** qemu-img and qemu-io as the judges of what src/crypto and src/luks make of an image. */

import { randomBytes } from 'node:crypto';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { BLOCK_CIPHERS, type BlockCipherName, hasKeysOf } from '../../../src/crypto/block-cipher.js';
import { DIGEST_BYTES, type HashName } from '../../../src/crypto/hash.js';
import { createSectorCipher, MODES, type SectorCipherSpec } from '../../../src/crypto/sector-cipher.js';
import { sectorCipherSpec } from '../../../src/luks/cipher.js';
import { type LuksHeader, parseLuksHeader } from '../../../src/luks/header.js';
import { legacyAesSpec } from '../../../src/luks/legacy-aes.js';
import { unlock } from '../../../src/luks/unlock.js';
import { hostOffset, patchBytes, readBytes } from '../../support/damage.js';
import { luksHeader } from '../../support/damage-luks.js';
import {
  amendKeySlots,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuIo,
  writeSecret,
} from '../../support/images.js';
import { lane } from '../../support/lane.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';
import { AT, luksVolume, type VolumeSpec } from './luks-volume.js';

const CLUSTER = 64 * KiB;
/** Those that QEMU 7.2 knows. */
const HASHES = Object.keys(DIGEST_BYTES).filter((hash) => hash !== 'sm3') as HashName[];
const CIPHERS = ['aes', 'serpent', 'twofish', 'cast5'] as const;

type Combination = Pick<VolumeSpec, 'mode' | 'iv' | 'hash'> & {
  cipher: BlockCipherName;
  ivHash?: HashName;
  keyBytes: number;
};

/** Bytes of the master key, for keys of the cipher of 16, 24 and 32 bytes. */
function masterKeyBytes(cipher: BlockCipherName, mode: VolumeSpec['mode']): number[] {
  const sizes: readonly number[] = BLOCK_CIPHERS[cipher].keyBytes;
  return sizes.map((bytes) => (mode === 'xts' ? 2 * bytes : bytes));
}

const IVS: readonly Pick<Combination, 'iv' | 'ivHash'>[] = [
  { iv: 'plain' },
  { iv: 'plain64' },
  { iv: 'plain64', ivHash: 'sha512' },
  ...HASHES.map((ivHash) => ({ iv: 'essiv', ivHash }) as const),
];

function combinations(): Combination[] {
  let count = 0;
  return CIPHERS.flatMap((cipher) =>
    MODES.flatMap((mode) =>
      masterKeyBytes(cipher, mode).flatMap((keyBytes) =>
        IVS.map((iv) => ({ cipher, mode, keyBytes, ...iv, hash: HASHES[count++ % HASHES.length]! })),
      ),
    ),
  );
}

/**
 * What both refuse: XTS with blocks of 8 bytes, and ESSIV with a digest that is no key of the cipher. For cast5 that
 * leaves md5.
 */
function isRefused({ cipher, mode, iv, ivHash }: Combination): boolean {
  const blocksTooSmall = mode === 'xts' && BLOCK_CIPHERS[cipher].blockBytes < 16;
  return blocksTooSmall || (iv === 'essiv' && !hasKeysOf(cipher, DIGEST_BYTES[ivHash!]));
}

/** QEMU 7.2 aborts where the key material is no whole number of sectors: keys of 192 bits, but not in XTS. */
function isTooMuchForQemu({ keyBytes, mode }: Combination): boolean {
  return keyBytes === 24 && mode !== 'xts';
}

function nameOf({ cipher, mode, iv, ivHash, keyBytes, hash }: Combination): string {
  const bits = mode === 'xts' ? keyBytes * 4 : keyBytes * 8;
  return `${cipher}-${bits}-${mode}-${iv}${ivHash === undefined ? '' : `:${ivHash}`} with ${hash}`;
}

function headerOf(path: string): LuksHeader {
  const { offset } = luksHeader(path);
  return parseLuksHeader(readBytes(path, offset, 592));
}

function specOf(path: string, secret: string): SectorCipherSpec {
  const { offset, length } = luksHeader(path);
  const header = headerOf(path);
  const read = (at: number, bytes: number) => {
    expect(at + bytes).to.be.at.most(length);
    return readBytes(path, offset + at, bytes);
  };
  return sectorCipherSpec(header, unlock(header, read, Buffer.from(secret)).masterKey);
}

/** QEMU writes two clusters and we read them; we write one and QEMU reads it. */
function expectSameCipher(image: Image, spec: SectorCipherSpec, tweak: 'guest' | 'host'): void {
  const path = imagePath(image);
  const sectorOf = (guest: number) => (tweak === 'guest' ? guest : hostOffset(path, guest)) / 512;
  const cipher = createSectorCipher(spec);
  const data = randomBytes(2 * CLUSTER);
  writeFileSync(join(image.dir, 'data'), data);
  qemuIo(image, [`write -s data ${CLUSTER} ${2 * CLUSTER}`]);
  for (const [index, guest] of [CLUSTER, 2 * CLUSTER].entries()) {
    const cluster = readBytes(path, hostOffset(path, guest), CLUSTER);
    cipher.decrypt(cluster, 0, CLUSTER, sectorOf(guest));
    const expected = data.subarray(index * CLUSTER, (index + 1) * CLUSTER);
    expect(cluster.equals(expected), `cluster ${index} as QEMU wrote it`).to.equal(true);
  }
  const ours = Buffer.alloc(CLUSTER, 0x5a);
  cipher.encrypt(ours, 0, CLUSTER, sectorOf(CLUSTER));
  patchBytes(path, hostOffset(path, CLUSTER), ours);
  // Says "Pattern verification failed" otherwise, which qemuIo throws.
  qemuIo(image, [`read -P 0x5a ${CLUSTER} ${CLUSTER}`]);
}

describe('a LUKS volume shared with QEMU', () => {
  const scratch = useScratch();
  const secret = () => writeSecret(scratch.dir, 'correct horse');
  const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
  let base: Image;
  before(() => {
    base = createImage(scratch.dir, { name: 'base.qcow2', size: MiB, secret: secret(), encryption });
  });

  /** A copy of the image with another LUKS header. */
  function withHeader(header: Buffer): Image {
    const image = { ...base, name: 'copy.qcow2' };
    copyFileSync(imagePath(base), imagePath(image));
    patchBytes(imagePath(image), luksHeader(imagePath(image)).offset, header);
    return image;
  }

  function volumeOf(combination: Combination, masterKey: Buffer): Buffer {
    return luksVolume({ ...combination, masterKey, slots: { 6: Buffer.from('correct horse') } });
  }

  const possible = combinations().filter((combination) => !isTooMuchForQemu(combination));
  // Ten IVs to a cipher, mode and key size: with every third, each of them occurs, and each IV with each cipher.
  const some = possible.filter((_, index) => index % lane(3, 1, 7) === 0);
  for (const combination of some.filter((each) => !isRefused(each))) {
    it(`is read and written alike as ${nameOf(combination)}`, () => {
      const masterKey = randomBytes(combination.keyBytes);
      const image = withHeader(volumeOf(combination, masterKey));
      const spec = specOf(imagePath(image), 'correct horse');
      expect(Buffer.from(spec.key).equals(masterKey)).to.equal(true);
      expectSameCipher(image, spec, 'host');
    });
  }

  it('is refused by both where the cipher does not go with the mode or the digest', () => {
    const refused = some.filter(isRefused);
    expect(refused).to.have.length.above(20);
    for (const combination of refused) {
      const { cipher, mode, iv, ivHash } = combination;
      const like = { ...combination, cipher: 'aes', mode: 'ecb', iv: 'plain', keyBytes: 16 } as const;
      const header = volumeOf(like, randomBytes(16));
      header.fill(0, AT.cipherName, AT.hashSpec);
      header.write(cipher, AT.cipherName);
      header.write(`${mode}-${iv}${ivHash === undefined ? '' : `:${ivHash}`}`, AT.cipherMode);
      header.writeUInt32BE(combination.keyBytes, AT.keyBytes);
      const image = withHeader(header);
      expect(() => qemuIo(image, ['read 0 512']), nameOf(combination)).to.throw(/can't open/);
      expectError('unsupported', [cipher], () => specOf(imagePath(image), 'correct horse'));
    }
  });

  it('opens as qemu-img made it, with the secret of each slot that qemu-img added', () => {
    const image = { ...base, name: 'slots.qcow2' };
    const path = imagePath(image);
    copyFileSync(imagePath(base), path);
    const other = writeSecret(scratch.dir, 'battery staple\n', 'other');
    const slot = ['state=active', 'new-secret=added', 'keyslot=5', 'iter-time=10'];
    amendKeySlots(image, slot, other);
    expect(headerOf(path).keySlots.map(({ state }) => state)).to.deep.equal(
      [0, 1, 2, 3, 4, 5, 6, 7].map((index) => (index === 0 || index === 5 ? 'active' : 'disabled')),
    );
    expectSameCipher(image, specOf(path, 'correct horse'), 'host');
    expectSameCipher(image, specOf(path, 'battery staple\n'), 'host');
    expectError('secret', ['wrong secret'], () => specOf(path, 'battery staple'));
    expectError('secret', ['wrong secret', 'printf'], () => specOf(path, 'correct horse\n'));

    amendKeySlots(image, ['state=inactive', 'keyslot=5']);
    expectError('secret', ['wrong secret'], () => specOf(path, 'battery staple\n'));
    expect(specOf(path, 'correct horse').key).to.have.length(64);
  });

  it('opens as qemu-img made it with AES-128-CBC, ESSIV and ripemd160', () => {
    const image = createImage(scratch.dir, {
      name: 'cbc.qcow2',
      size: MiB,
      secret: secret(),
      encryption: [
        ...encryption,
        ...['encrypt.cipher-alg=aes-128', 'encrypt.cipher-mode=cbc', 'encrypt.hash-alg=ripemd160'],
        ...['encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256'],
      ],
    });
    expectSameCipher(image, specOf(imagePath(image), 'correct horse'), 'host');
  });
});

describe('a legacy AES image shared with QEMU', () => {
  const scratch = useScratch();
  for (const secret of ['short', 'correct horse battery staple', 'newline\n']) {
    it(`is read and written alike with the secret ${JSON.stringify(secret)}`, () => {
      const key = writeSecret(scratch.dir, secret);
      const encryption = ['encrypt.format=aes'];
      const image = createImage(scratch.dir, { size: MiB, secret: key, encryption });
      expectSameCipher(image, legacyAesSpec(Buffer.from(secret)), 'guest');
    });
  }
});
