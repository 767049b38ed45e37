import { createCipheriv } from 'node:crypto';
import {
  BLOCK_BYTES,
  BLOCK_WORDS,
  blockDecryptor,
  blockEncryptor,
  type ModeCipher,
  SECTOR_BLOCKS,
  SECTOR_BYTES,
  SECTOR_WORDS,
} from './ecb.js';
import type { IvGenerator } from './iv.js';
import { PIECE_SECTORS, workArea } from './work-area.js';

/** Below this many sectors one CBC pass a sector is faster than one ECB pass a column (measured). */
const PARALLEL_SECTORS = 8;

/** CBC (NIST SP 800-38A, section 6.2), every sector a message of its own. */
export function cbcMode(key: Uint8Array, writeIvs: IvGenerator): ModeCipher {
  const encryptBlocks = blockEncryptor(key);
  const decryptBlocks = blockDecryptor(key);
  const area = workArea();
  const { data, words, masks, ivs, ivWords } = area;
  const column = new Int32Array(PIECE_SECTORS * BLOCK_WORDS);
  const columnBytes = new Uint8Array(column.buffer);
  const algorithm = `aes-${key.length * 8}-cbc`;

  /** All sectors in step: one ECB pass takes the first block of every sector, the next one the second, ... */
  function encryptColumns(sectors: number): void {
    column.set(ivWords);
    for (let block = 0; block < SECTOR_BLOCKS; block++) {
      addColumn(words, block * BLOCK_WORDS, column, sectors);
      encryptBlocks(columnBytes, sectors * BLOCK_BYTES);
      putColumn(words, block * BLOCK_WORDS, column, sectors);
    }
  }

  /**
   * Sector by sector with one CBC context. The context chains on from the last block of the sector before, so that
   * block is XORed out of the next sector's first block, and its IV in.
   */
  function encryptRows(sectors: number): void {
    const context = createCipheriv(algorithm, key, ivs.subarray(0, BLOCK_BYTES)).setAutoPadding(false);
    for (let sector = 0; sector < sectors; sector++) {
      const start = sector * SECTOR_WORDS;
      if (sector > 0) {
        const iv = sector * BLOCK_WORDS;
        for (let i = 0; i < BLOCK_WORDS; i++) {
          words[start + i] = words[start + i]! ^ ivWords[iv + i]! ^ words[start - BLOCK_WORDS + i]!;
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
      data.copy(masks, BLOCK_BYTES, 0, bytes - BLOCK_BYTES);
      for (let sector = 0; sector < sectors; sector++) {
        ivs.copy(masks, sector * SECTOR_BYTES, sector * BLOCK_BYTES, (sector + 1) * BLOCK_BYTES);
      }
      decryptBlocks(data, bytes);
      area.xor(bytes);
    },
    encrypt(sectors, firstSector) {
      writeIvs(firstSector, sectors);
      if (sectors < PARALLEL_SECTORS) encryptRows(sectors);
      else encryptColumns(sectors);
    },
  };
}

// The loops have their constants written out, 4 words a block and 128 words a sector: V8 reads an imported constant from
// memory on every turn, which costs a third of the speed.

/** XORs one block of every sector into the column. */
function addColumn(words: Int32Array, offset: number, column: Int32Array, sectors: number): void {
  for (let from = offset, to = 0; to < sectors * 4; from += 128, to += 4) {
    column[to] = words[from]! ^ column[to]!;
    column[to + 1] = words[from + 1]! ^ column[to + 1]!;
    column[to + 2] = words[from + 2]! ^ column[to + 2]!;
    column[to + 3] = words[from + 3]! ^ column[to + 3]!;
  }
}

function putColumn(words: Int32Array, offset: number, column: Int32Array, sectors: number): void {
  for (let from = 0, to = offset; from < sectors * 4; from += 4, to += 128) {
    words[to] = column[from]!;
    words[to + 1] = column[from + 1]!;
    words[to + 2] = column[from + 2]!;
    words[to + 3] = column[from + 3]!;
  }
}
