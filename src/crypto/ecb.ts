import { type BlockCipherName, blockPass } from './block-cipher.js';
import { workArea } from './work-area.js';

export const SECTOR_BYTES = 512;
export const SECTOR_WORDS = 128;

/** What one mode does to the first sectors of the work area; `firstSector` is the number of the first one. */
export interface ModeCipher {
  decrypt(sectors: number, firstSector: number): void;
  encrypt(sectors: number, firstSector: number): void;
}

/** Every block for itself; no IV, no sector number. */
export function ecbMode(cipher: BlockCipherName, key: Uint8Array): ModeCipher {
  const { data } = workArea();
  const encryptBlocks = blockPass('encrypt', cipher, key);
  const decryptBlocks = blockPass('decrypt', cipher, key);
  return {
    decrypt: (sectors) => decryptBlocks(data, sectors * SECTOR_BYTES),
    encrypt: (sectors) => encryptBlocks(data, sectors * SECTOR_BYTES),
  };
}
