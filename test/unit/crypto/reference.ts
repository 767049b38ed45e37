/** The sector ciphers written down naively, sector by sector and block by block, to compare with. */
import { type Cipher, createCipheriv, createHash } from 'node:crypto';
import { BLOCK_CIPHERS, blockPass } from '../../../src/crypto/block-cipher.js';
import type { SectorCipherSpec } from '../../../src/crypto/sector-cipher.js';

const ciphers = new Map<string, Cipher>();
const passes = new Map<string, ReturnType<typeof blockPass>>();

/** AES from node:crypto; the others as they come, one block at a time. */
function encryptBlock({ cipher }: SectorCipherSpec, key: Uint8Array, block: Uint8Array): Buffer {
  if (cipher !== 'aes') {
    const name = `${cipher} ${Buffer.from(key).toString('hex')}`;
    const pass = passes.get(name) ?? blockPass('encrypt', cipher, key);
    passes.set(name, pass);
    const bytes = Buffer.from(block);
    pass(bytes, bytes.length);
    return bytes;
  }
  const name = Buffer.from(key).toString('latin1');
  // In ECB mode no block depends on the one before it.
  const cipherOfKey =
    ciphers.get(name) ?? createCipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
  ciphers.set(name, cipherOfKey);
  return cipherOfKey.update(block);
}

function ivOf(spec: SectorCipherSpec, sector: number): Buffer {
  const iv = Buffer.alloc(BLOCK_CIPHERS[spec.cipher].blockBytes);
  if (spec.iv === 'plain') iv.writeUInt32LE(Number(BigInt(sector) & 0xffffffffn));
  else iv.writeBigUInt64LE(BigInt(sector));
  if (spec.iv !== 'essiv') return iv;
  return encryptBlock(spec, createHash(spec.ivHash!).update(spec.key).digest(), iv);
}

function xor(a: Uint8Array, b: Uint8Array): Buffer {
  const result = Buffer.allocUnsafe(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i]! ^ b[i]!;
  return result;
}

function hexNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function bytesOf(number: bigint, length: number): Buffer {
  return Buffer.from(number.toString(16).padStart(2 * length, '0'), 'hex');
}

function blocksOf(sector: Buffer, size: number): Buffer[] {
  return Array.from({ length: sector.length / size }, (_, i) => sector.subarray(i * size, (i + 1) * size));
}

function encryptCbc(spec: SectorCipherSpec, iv: Buffer, sector: Buffer): Buffer {
  let last = iv;
  return Buffer.concat(
    blocksOf(sector, iv.length).map((block) => {
      last = encryptBlock(spec, spec.key, xor(block, last));
      return last;
    }),
  );
}

function encryptCtr(spec: SectorCipherSpec, iv: Buffer, sector: Buffer): Buffer {
  const modulus = 1n << BigInt(8 * iv.length);
  return Buffer.concat(
    blocksOf(sector, iv.length).map((block, i) => {
      const counter = bytesOf((hexNumber(iv) + BigInt(i)) % modulus, iv.length);
      return xor(block, encryptBlock(spec, spec.key, counter));
    }),
  );
}

/** IEEE 1619 over one sector, with the tweak as a bigint: knows AES-192 too, which OpenSSL's XTS does not. */
function encryptXts(spec: SectorCipherSpec, iv: Buffer, sector: Buffer): Buffer {
  const { key } = spec;
  const half = key.length / 2;
  let tweak = hexNumber(encryptBlock(spec, key.subarray(half), iv).reverse());
  return Buffer.concat(
    blocksOf(sector, 16).map((block) => {
      const mask = bytesOf(tweak, 16).reverse();
      tweak <<= 1n;
      if (tweak >> 128n) tweak ^= (1n << 128n) | 0x87n;
      return xor(encryptBlock(spec, key.subarray(0, half), xor(block, mask)), mask);
    }),
  );
}

function encryptSector(spec: SectorCipherSpec, number: number, sector: Buffer): Buffer {
  const iv = ivOf(spec, number);
  switch (spec.mode) {
    case 'xts':
      return encryptXts(spec, iv, sector);
    case 'cbc':
      return encryptCbc(spec, iv, sector);
    case 'ctr':
      return encryptCtr(spec, iv, sector);
    case 'ecb':
      return Buffer.concat(blocksOf(sector, iv.length).map((block) => encryptBlock(spec, spec.key, block)));
  }
}

export function referenceEncrypt(spec: SectorCipherSpec, plain: Buffer, firstSector: number): Buffer {
  const sectors: Buffer[] = [];
  for (let at = 0; at < plain.length; at += 512) {
    sectors.push(encryptSector(spec, firstSector + at / 512, plain.subarray(at, at + 512)));
  }
  return Buffer.concat(sectors);
}
