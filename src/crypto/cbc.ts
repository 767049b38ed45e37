import { createCipheriv } from 'node:crypto';
import {
  BLOCK_WORDS,
  blockDecryptor,
  blockEncryptor,
  type ModeCipher,
  SECTOR_BLOCKS,
  SECTOR_WORDS,
} from './ecb.js';
import type { IvGenerator } from './iv.js';

/** Below this many sectors one CBC pass a sector is faster than one ECB pass a column (measured). */
const PARALLEL_SECTORS = 32;

/** CBC (NIST SP 800-38A, section 6.2), every sector a message of its own. */
export function cbcMode(key: Uint8Array, ivs: IvGenerator, maxSectors: number): ModeCipher {
  const encryptBlocks = blockEncryptor(key);
  const decryptBlocks = blockDecryptor(key);
  const column = new Int32Array(maxSectors * BLOCK_WORDS);
  const algorithm = `aes-${key.length * 8}-cbc`;

  /** All sectors in step: one ECB pass takes the first block of every sector, the next one the second, ... */
  function encryptColumns(words: Int32Array, chain: Int32Array): void {
    const inputs = column.subarray(0, chain.length);
    for (let block = 0; block < SECTOR_BLOCKS; block++) {
      gather(words, block * BLOCK_WORDS, chain, inputs);
      chain = encryptBlocks(inputs);
      scatter(words, block * BLOCK_WORDS, chain);
    }
  }

  /**
   * Sector by sector with one CBC context. The context chains on from the last block of the sector before, so that
   * block is XORed out of the next sector's first block, and its IV in.
   */
  function encryptRows(words: Int32Array, chain: Int32Array): void {
    const context = createCipheriv(algorithm, key, chain.subarray(0, BLOCK_WORDS)).setAutoPadding(false);
    for (let start = 0; start < words.length; start += SECTOR_WORDS) {
      if (start > 0) {
        const iv = (start / SECTOR_WORDS) * BLOCK_WORDS;
        for (let i = 0; i < BLOCK_WORDS; i++) {
          words[start + i] = words[start + i]! ^ chain[iv + i]! ^ words[start - BLOCK_WORDS + i]!;
        }
      }
      const sector = words.subarray(start, start + SECTOR_WORDS);
      const output = context.update(sector);
      new Uint8Array(sector.buffer, sector.byteOffset, sector.byteLength).set(output);
    }
  }

  return {
    maxSectors,
    decrypt(words, firstSector) {
      unchain(words, decryptBlocks(words), ivs(firstSector, words.length / SECTOR_WORDS));
    },
    encrypt(words, firstSector) {
      const sectors = words.length / SECTOR_WORDS;
      if (sectors < PARALLEL_SECTORS) encryptRows(words, ivs(firstSector, sectors));
      else encryptColumns(words, ivs(firstSector, sectors));
    },
  };
}

// As in xts.ts, the loops have their constants written out: 4 words a block, 32 blocks and 128 words a sector.

/** Replaces each ciphertext block by its decrypted block XOR the ciphertext block (or IV) before it. */
function unchain(words: Int32Array, blocks: Int32Array, ivs: Int32Array): void {
  let at = 0;
  for (let iv = 0; iv < ivs.length; iv += 4) {
    let c0 = ivs[iv]!;
    let c1 = ivs[iv + 1]!;
    let c2 = ivs[iv + 2]!;
    let c3 = ivs[iv + 3]!;
    for (let block = 0; block < 32; block++) {
      const p0 = blocks[at]! ^ c0;
      const p1 = blocks[at + 1]! ^ c1;
      const p2 = blocks[at + 2]! ^ c2;
      const p3 = blocks[at + 3]! ^ c3;
      c0 = words[at]!;
      c1 = words[at + 1]!;
      c2 = words[at + 2]!;
      c3 = words[at + 3]!;
      words[at] = p0;
      words[at + 1] = p1;
      words[at + 2] = p2;
      words[at + 3] = p3;
      at += 4;
    }
  }
}

/** One block of every sector, XOR the block that its chain holds. */
function gather(words: Int32Array, offset: number, chain: Int32Array, inputs: Int32Array): void {
  for (let from = offset, to = 0; to < inputs.length; from += 128, to += 4) {
    inputs[to] = words[from]! ^ chain[to]!;
    inputs[to + 1] = words[from + 1]! ^ chain[to + 1]!;
    inputs[to + 2] = words[from + 2]! ^ chain[to + 2]!;
    inputs[to + 3] = words[from + 3]! ^ chain[to + 3]!;
  }
}

function scatter(words: Int32Array, offset: number, chain: Int32Array): void {
  for (let from = 0, to = offset; from < chain.length; from += 4, to += 128) {
    words[to] = chain[from]!;
    words[to + 1] = chain[from + 1]!;
    words[to + 2] = chain[from + 2]!;
    words[to + 3] = chain[from + 3]!;
  }
}
