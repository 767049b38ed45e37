import { createCipheriv, createDecipheriv } from 'node:crypto';
import { Qcow2fsError } from '../errors.js';
import { aesEcb, type BlockPass } from '../host/openssl.js';
import { type WorkArea, workArea } from './work-area.js';

export const BLOCK_BYTES = 16;
export const BLOCK_WORDS = 4;
export const SECTOR_BYTES = 512;
export const SECTOR_WORDS = 128;
export const SECTOR_BLOCKS = 32;

/** What one mode does to the first sectors of the work area; `firstSector` is the number of the first one. */
export interface ModeCipher {
  decrypt(sectors: number, firstSector: number): void;
  encrypt(sectors: number, firstSector: number): void;
}

export function blockEncryptor(key: Uint8Array): BlockPass {
  return aesEcb('encrypt', key) ?? nodeBlockPass('encrypt', key);
}

export function blockDecryptor(key: Uint8Array): BlockPass {
  return aesEcb('decrypt', key) ?? nodeBlockPass('decrypt', key);
}

/**
 * For a Node that keeps its OpenSSL to itself. ECB has no chaining state, so one context serves every request: `update`
 * is called over and over and `final` never. Without padding a decipher holds no block back either, which the length
 * check makes sure of.
 */
export function nodeBlockPass(direction: 'encrypt' | 'decrypt', key: Uint8Array): BlockPass {
  const create = direction === 'encrypt' ? createCipheriv : createDecipheriv;
  const context = create(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
  return (bytes, length) => {
    const output = context.update(bytes.subarray(0, length));
    if (output.length !== length) {
      throw new Qcow2fsError('internal', `AES turned ${length} bytes into ${output.length}`);
    }
    bytes.set(output);
  };
}

/** Every block for itself; no IV, no sector number. */
export function ecbMode(key: Uint8Array): ModeCipher {
  const { data }: WorkArea = workArea();
  const encryptBlocks = blockEncryptor(key);
  const decryptBlocks = blockDecryptor(key);
  return {
    decrypt: (sectors) => decryptBlocks(data, sectors * SECTOR_BYTES),
    encrypt: (sectors) => encryptBlocks(data, sectors * SECTOR_BYTES),
  };
}
