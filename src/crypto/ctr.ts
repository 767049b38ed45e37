import { BLOCK_CIPHERS, type BlockCipherName, blockPass } from './block-cipher.js';
import { type ModeCipher, SECTOR_BYTES } from './ecb.js';
import type { IvGenerator } from './iv.js';
import { workArea } from './work-area.js';

/**
 * CTR (NIST SP 800-38A, section 6.5), every sector a message of its own: its IV is the first counter block, and the
 * blocks count up as one big-endian number.
 */
export function ctrMode(cipher: BlockCipherName, key: Uint8Array, writeIvs: IvGenerator): ModeCipher {
  const encryptBlocks = blockPass('encrypt', cipher, key);
  const { blockBytes } = BLOCK_CIPHERS[cipher];
  const area = workArea();
  const { masks, ivs } = area;

  function transform(sectors: number, firstSector: number): void {
    const bytes = sectors * SECTOR_BYTES;
    writeIvs(firstSector, sectors);
    for (let sector = 0; sector < sectors; sector++) {
      const start = sector * SECTOR_BYTES;
      ivs.copy(masks, start, sector * blockBytes, (sector + 1) * blockBytes);
      countUp(masks, start, blockBytes);
    }
    encryptBlocks(masks, bytes);
    area.xor(bytes);
  }

  return { decrypt: transform, encrypt: transform };
}

/** Fills a sector with the numbers that follow its first block. */
function countUp(bytes: Uint8Array, start: number, blockBytes: number): void {
  for (let at = start + blockBytes; at < start + SECTOR_BYTES; at += blockBytes) {
    let carry = 1;
    for (let i = at + blockBytes - 1; i >= at; i--) {
      const value = bytes[i - blockBytes]! + carry;
      bytes[i] = value;
      carry = value >> 8;
    }
  }
}
