import { createCipheriv } from 'node:crypto';
import { BLOCK_CIPHERS, type BlockCipherName, blockPass } from './block-cipher.js';
import { type ModeCipher, SECTOR_BYTES, SECTOR_WORDS } from './ecb.js';
import type { IvGenerator } from './iv.js';
import { PIECE_SECTORS, workArea } from './work-area.js';

/** Below this many sectors one CBC pass a sector is faster than one ECB pass a column (measured with AES). */
const PARALLEL_SECTORS = 8;

/** CBC (NIST SP 800-38A, section 6.2), every sector a message of its own. */
export function cbcMode(cipher: BlockCipherName, key: Uint8Array, writeIvs: IvGenerator): ModeCipher {
  const encryptBlocks = blockPass('encrypt', cipher, key);
  const decryptBlocks = blockPass('decrypt', cipher, key);
  const { blockBytes } = BLOCK_CIPHERS[cipher];
  const blockWords = blockBytes / 4;
  const area = workArea();
  const { data, words, masks, ivs, ivWords } = area;
  const column = new Int32Array(PIECE_SECTORS * blockWords);
  const columnBytes = new Uint8Array(column.buffer);
  const { add, put } = blockBytes === 16 ? COLUMNS_OF_16 : COLUMNS_OF_8;

  /** All sectors in step: one ECB pass takes the first block of every sector, the next one the second, ... */
  function encryptColumns(sectors: number): void {
    column.set(ivWords.subarray(0, column.length));
    for (let offset = 0; offset < SECTOR_WORDS; offset += blockWords) {
      add(words, offset, column, sectors);
      encryptBlocks(columnBytes, sectors * blockBytes);
      put(words, offset, column, sectors);
    }
  }

  /**
   * Sector by sector with one CBC context. The context chains on from the last block of the sector before, so that
   * block is XORed out of the next sector's first block, and its IV in.
   */
  function encryptRows(sectors: number): void {
    const algorithm = `aes-${key.length * 8}-cbc`;
    const context = createCipheriv(algorithm, key, ivs.subarray(0, blockBytes)).setAutoPadding(false);
    for (let sector = 0; sector < sectors; sector++) {
      const start = sector * SECTOR_WORDS;
      if (sector > 0) {
        const iv = sector * blockWords;
        for (let i = 0; i < blockWords; i++) {
          words[start + i] = words[start + i]! ^ ivWords[iv + i]! ^ words[start - blockWords + i]!;
        }
      }
      const at = sector * SECTOR_BYTES;
      data.set(context.update(data.subarray(at, at + SECTOR_BYTES)), at);
    }
  }

  return {
    /** Each decrypted block is XORed with the ciphertext block before it, the first one of a sector with its IV. */
    decrypt(sectors, firstSector) {
      const bytes = sectors * SECTOR_BYTES;
      writeIvs(firstSector, sectors);
      data.copy(masks, blockBytes, 0, bytes - blockBytes);
      for (let sector = 0; sector < sectors; sector++) {
        ivs.copy(masks, sector * SECTOR_BYTES, sector * blockBytes, (sector + 1) * blockBytes);
      }
      decryptBlocks(data, bytes);
      area.xor(bytes);
    },
    encrypt(sectors, firstSector) {
      writeIvs(firstSector, sectors);
      if (cipher === 'aes' && sectors < PARALLEL_SECTORS) encryptRows(sectors);
      else encryptColumns(sectors);
    },
  };
}

/** One block of every sector: XORed into the column, and put back where it was. */
interface Columns {
  add(words: Int32Array, offset: number, column: Int32Array, sectors: number): void;
  put(words: Int32Array, offset: number, column: Int32Array, sectors: number): void;
}

// The loops have their constants written out, 128 words a sector: V8 reads an imported constant from memory on every
// turn, which costs a third of the speed.

const COLUMNS_OF_16: Columns = {
  add(words, offset, column, sectors) {
    for (let from = offset, to = 0; to < sectors * 4; from += 128, to += 4) {
      column[to] = words[from]! ^ column[to]!;
      column[to + 1] = words[from + 1]! ^ column[to + 1]!;
      column[to + 2] = words[from + 2]! ^ column[to + 2]!;
      column[to + 3] = words[from + 3]! ^ column[to + 3]!;
    }
  },
  put(words, offset, column, sectors) {
    for (let from = 0, to = offset; from < sectors * 4; from += 4, to += 128) {
      words[to] = column[from]!;
      words[to + 1] = column[from + 1]!;
      words[to + 2] = column[from + 2]!;
      words[to + 3] = column[from + 3]!;
    }
  },
};

const COLUMNS_OF_8: Columns = {
  add(words, offset, column, sectors) {
    for (let from = offset, to = 0; to < sectors * 2; from += 128, to += 2) {
      column[to] = words[from]! ^ column[to]!;
      column[to + 1] = words[from + 1]! ^ column[to + 1]!;
    }
  },
  put(words, offset, column, sectors) {
    for (let from = 0, to = offset; from < sectors * 2; from += 2, to += 128) {
      words[to] = column[from]!;
      words[to + 1] = column[from + 1]!;
    }
  },
};
