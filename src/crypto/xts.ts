import { type BlockCipherName, blockPass } from './block-cipher.js';
import { type ModeCipher, SECTOR_BYTES } from './ecb.js';
import type { IvGenerator } from './iv.js';
import { workArea } from './work-area.js';

const BLOCK_BYTES = 16;

/**
 * XTS (IEEE Std 1619-2018, section 5) as ECB between two XORs with the same masks. A data unit is a 512-byte sector, a
 * whole number of blocks, so no ciphertext is ever stolen.
 */
export function xtsMode(cipher: BlockCipherName, key: Uint8Array, writeIvs: IvGenerator): ModeCipher {
  const half = key.length / 2;
  const encryptBlocks = blockPass('encrypt', cipher, key.subarray(0, half));
  const decryptBlocks = blockPass('decrypt', cipher, key.subarray(0, half));
  const encryptTweaks = blockPass('encrypt', cipher, key.subarray(half));
  const area = workArea();

  function masked(pass: typeof encryptBlocks, sectors: number, firstSector: number): void {
    const bytes = sectors * SECTOR_BYTES;
    writeIvs(firstSector, sectors);
    encryptTweaks(area.ivs, sectors * BLOCK_BYTES);
    area.makeMasks(sectors);
    area.xor(bytes);
    pass(area.data, bytes);
    area.xor(bytes);
  }

  return {
    decrypt: (sectors, firstSector) => masked(decryptBlocks, sectors, firstSector),
    encrypt: (sectors, firstSector) => masked(encryptBlocks, sectors, firstSector),
  };
}
