import { createHash } from 'node:crypto';
import { BLOCK_WORDS, blockEncryptor } from './ecb.js';
import type { HashName } from './hash.js';

/** The IVs of consecutive sectors, one block each. The array may be overwritten by the next call. */
export type IvGenerator = (firstSector: number, sectors: number) => Int32Array;

const TWO_32 = 2 ** 32;

/** The sector number as a little-endian 64-bit number, padded with zeros to a block. */
export function plain64Ivs(maxSectors: number): IvGenerator {
  const words = new Int32Array(maxSectors * BLOCK_WORDS);
  return (firstSector, sectors) => {
    for (let i = 0; i < sectors; i++) {
      const sector = firstSector + i;
      words[i * BLOCK_WORDS] = sector;
      words[i * BLOCK_WORDS + 1] = sector / TWO_32;
    }
    return words.subarray(0, sectors * BLOCK_WORDS);
  };
}

/** The low 32 bits of the sector number, little endian, padded with zeros to a block: they wrap after 2 TiB. */
export function plainIvs(maxSectors: number): IvGenerator {
  const words = new Int32Array(maxSectors * BLOCK_WORDS);
  return (firstSector, sectors) => {
    for (let i = 0; i < sectors; i++) words[i * BLOCK_WORDS] = firstSector + i;
    return words.subarray(0, sectors * BLOCK_WORDS);
  };
}

/**
 * The plain64 block, encrypted with AES under the digest of the whole volume key (with XTS: of both halves). The size
 * of that AES key is the size of the digest, whatever the size of the volume key: dm-crypt's rule, and QEMU's.
 */
export function essivIvs(maxSectors: number, hash: HashName, key: Uint8Array): IvGenerator {
  const plain64 = plain64Ivs(maxSectors);
  const salt = createHash(hash).update(key).digest();
  const encryptBlocks = blockEncryptor(salt);
  salt.fill(0);
  return (firstSector, sectors) => encryptBlocks(plain64(firstSector, sectors));
}
