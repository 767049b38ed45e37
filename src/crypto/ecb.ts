import { createCipheriv, createDecipheriv } from 'node:crypto';
import { Qcow2fsError } from '../errors.js';

export const BLOCK_BYTES = 16;
export const BLOCK_WORDS = 4;
export const SECTOR_BYTES = 512;
export const SECTOR_WORDS = 128;
export const SECTOR_BLOCKS = 32;

/** What one mode does, in place, to whole sectors; `firstSector` is the number of the first one. */
export interface ModeCipher {
  /** Sectors that one call takes at most. */
  readonly maxSectors: number;
  decrypt(words: Int32Array, firstSector: number): void;
  encrypt(words: Int32Array, firstSector: number): void;
}

/** Runs AES over whole blocks; the result is a new array of the same length. */
export type BlockPass = (input: Int32Array) => Int32Array;

/**
 * ECB has no chaining state, so one OpenSSL context serves every request: `update` is called over and over and
 * `final` never. Without padding a decipher holds no block back either, which the length check makes sure of.
 */
function blockPass(direction: 'encrypt' | 'decrypt', key: Uint8Array): BlockPass {
  const create = direction === 'encrypt' ? createCipheriv : createDecipheriv;
  const context = create(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
  return (input) => {
    const output = context.update(input);
    if (output.length !== input.byteLength) {
      throw new Qcow2fsError('internal', `AES turned ${input.byteLength} bytes into ${output.length}`);
    }
    const bytes = output.byteOffset % 4 === 0 ? output : Uint8Array.from(output);
    return new Int32Array(bytes.buffer, bytes.byteOffset, input.length);
  };
}

export function blockEncryptor(key: Uint8Array): BlockPass {
  return blockPass('encrypt', key);
}

export function blockDecryptor(key: Uint8Array): BlockPass {
  return blockPass('decrypt', key);
}

/** Every block for itself; no IV, no sector number. */
export function ecbMode(key: Uint8Array): ModeCipher {
  const encryptBlocks = blockEncryptor(key);
  const decryptBlocks = blockDecryptor(key);
  return {
    maxSectors: 128,
    decrypt: (words) => words.set(decryptBlocks(words)),
    encrypt: (words) => words.set(encryptBlocks(words)),
  };
}
