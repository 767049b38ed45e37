import { createHash } from 'node:crypto';
import { BLOCK_BYTES, BLOCK_WORDS, blockEncryptor } from './ecb.js';
import type { HashName } from './hash.js';
import { workArea } from './work-area.js';

/** Writes the IVs of consecutive sectors to the work area, one block each. */
export type IvGenerator = (firstSector: number, sectors: number) => void;

const TWO_32 = 2 ** 32;

/** The sector number as a little-endian 64-bit number, padded with zeros to a block. */
export function plain64Ivs(): IvGenerator {
  const words = workArea().ivWords;
  return (firstSector, sectors) => {
    for (let i = 0; i < sectors; i++) {
      const sector = firstSector + i;
      words[i * BLOCK_WORDS] = sector;
      words[i * BLOCK_WORDS + 1] = sector / TWO_32;
      words[i * BLOCK_WORDS + 2] = 0;
      words[i * BLOCK_WORDS + 3] = 0;
    }
  };
}

/** The low 32 bits of the sector number, little endian, padded with zeros to a block: they wrap after 2 TiB. */
export function plainIvs(): IvGenerator {
  const words = workArea().ivWords;
  return (firstSector, sectors) => {
    for (let i = 0; i < sectors; i++) {
      words[i * BLOCK_WORDS] = firstSector + i;
      words[i * BLOCK_WORDS + 1] = 0;
      words[i * BLOCK_WORDS + 2] = 0;
      words[i * BLOCK_WORDS + 3] = 0;
    }
  };
}

/**
 * The plain64 block, encrypted with AES under the digest of the whole volume key (with XTS: of both halves). The size
 * of that AES key is the size of the digest, whatever the size of the volume key: dm-crypt's rule, and QEMU's.
 */
export function essivIvs(hash: HashName, key: Uint8Array): IvGenerator {
  const writePlain64 = plain64Ivs();
  const salt = createHash(hash).update(key).digest();
  const encryptBlocks = blockEncryptor(salt);
  salt.fill(0);
  const { ivs } = workArea();
  return (firstSector, sectors) => {
    writePlain64(firstSector, sectors);
    encryptBlocks(ivs, sectors * BLOCK_BYTES);
  };
}
