/** The sector ciphers written down naively, sector by sector and block by block, to compare with. */
import { createCipheriv, createHash } from 'node:crypto';
import type { SectorCipherSpec } from '../../../src/crypto/sector-cipher.js';

function encryptBlock(key: Uint8Array, block: Uint8Array): Buffer {
  return createCipheriv(`aes-${key.length * 8}-ecb`, key, null)
    .setAutoPadding(false)
    .update(block);
}

function ivOf(spec: SectorCipherSpec, sector: number): Buffer {
  const iv = Buffer.alloc(16);
  if (spec.iv === 'plain') iv.writeUInt32LE(Number(BigInt(sector) & 0xffffffffn));
  else iv.writeBigUInt64LE(BigInt(sector));
  if (spec.iv !== 'essiv') return iv;
  return encryptBlock(createHash(spec.ivHash!).update(spec.key).digest(), iv);
}

/** IEEE 1619 over one sector, with the tweak as a bigint: knows AES-192 too, which OpenSSL's XTS does not. */
function encryptXts(key: Uint8Array, iv: Buffer, sector: Buffer): Buffer {
  const half = key.length / 2;
  let tweak = BigInt(
    `0x${Buffer.from(encryptBlock(key.subarray(half), iv))
      .reverse()
      .toString('hex')}`,
  );
  const blocks: Buffer[] = [];
  for (let at = 0; at < sector.length; at += 16) {
    const mask = Buffer.from(tweak.toString(16).padStart(32, '0'), 'hex').reverse();
    const xor = (block: Buffer) => Buffer.from(block.map((byte, i) => byte ^ mask[i]!));
    blocks.push(xor(encryptBlock(key.subarray(0, half), xor(sector.subarray(at, at + 16)))));
    tweak <<= 1n;
    if (tweak >> 128n) tweak ^= (1n << 128n) | 0x87n;
  }
  return Buffer.concat(blocks);
}

function encryptSector(spec: SectorCipherSpec, number: number, sector: Buffer): Buffer {
  const { mode, key } = spec;
  const iv = ivOf(spec, number);
  if (mode === 'xts' && key.length === 48) return encryptXts(key, iv, sector);
  const bits = mode === 'xts' ? key.length * 4 : key.length * 8;
  const cipher = createCipheriv(`aes-${bits}-${mode}`, key, mode === 'ecb' ? null : iv);
  return cipher.setAutoPadding(false).update(sector);
}

export function referenceEncrypt(spec: SectorCipherSpec, plain: Buffer, firstSector: number): Buffer {
  const sectors: Buffer[] = [];
  for (let at = 0; at < plain.length; at += 512) {
    sectors.push(encryptSector(spec, firstSector + at / 512, plain.subarray(at, at + 512)));
  }
  return Buffer.concat(sectors);
}
