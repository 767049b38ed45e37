import { createHash } from 'node:crypto';
import { BLOCK_CIPHERS, type BlockCipherName, blockPass } from './block-cipher.js';
import type { HashName } from './hash.js';
import { workArea } from './work-area.js';

/** Writes the IVs of consecutive sectors to the work area, one block of the cipher each. */
export type IvGenerator = (firstSector: number, sectors: number) => void;

const TWO_32 = 2 ** 32;

/** The sector number as a little-endian 64-bit number, padded with zeros to a block. */
export function plain64Ivs(cipher: BlockCipherName): IvGenerator {
  const words = workArea().ivWords;
  const stride = blockWords(cipher);
  return (firstSector, sectors) => {
    words.fill(0, 0, sectors * stride);
    for (let i = 0; i < sectors; i++) {
      const sector = firstSector + i;
      words[i * stride] = sector;
      words[i * stride + 1] = sector / TWO_32;
    }
  };
}

/** The low 32 bits of the sector number, little endian, padded with zeros to a block: they wrap after 2 TiB. */
export function plainIvs(cipher: BlockCipherName): IvGenerator {
  const words = workArea().ivWords;
  const stride = blockWords(cipher);
  return (firstSector, sectors) => {
    words.fill(0, 0, sectors * stride);
    for (let i = 0; i < sectors; i++) words[i * stride] = firstSector + i;
  };
}

/**
 * The plain64 block, encrypted under the digest of the whole volume key (with XTS: of both halves). The size of that
 * key is the size of the digest, whatever the size of the volume key: dm-crypt's rule, and QEMU's.
 */
export function essivIvs(cipher: BlockCipherName, hash: HashName, key: Uint8Array): IvGenerator {
  const writePlain64 = plain64Ivs(cipher);
  const salt = createHash(hash).update(key).digest();
  const encryptBlocks = blockPass('encrypt', cipher, salt);
  salt.fill(0);
  const { ivs } = workArea();
  const { blockBytes } = BLOCK_CIPHERS[cipher];
  return (firstSector, sectors) => {
    writePlain64(firstSector, sectors);
    encryptBlocks(ivs, sectors * blockBytes);
  };
}

function blockWords(cipher: BlockCipherName): number {
  return BLOCK_CIPHERS[cipher].blockBytes / 4;
}
