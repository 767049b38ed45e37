/** The block ciphers that a LUKS header can name (QEMU crypto/block-luks.c). The arithmetic is that of libraries. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { Qcow2fsError } from '../errors.js';
import { nettleEcb } from '../host/nettle.js';
import { type BlockPass, type Direction, opensslEcb } from '../host/openssl.js';

interface BlockCipher {
  readonly blockBytes: 8 | 16;
  /** The sizes that its keys can have. */
  readonly keyBytes: readonly number[];
}

export const BLOCK_CIPHERS = {
  aes: { blockBytes: 16, keyBytes: [16, 24, 32] },
  serpent: { blockBytes: 16, keyBytes: [16, 24, 32] },
  twofish: { blockBytes: 16, keyBytes: [16, 24, 32] },
  cast5: { blockBytes: 8, keyBytes: [16] },
  sm4: { blockBytes: 16, keyBytes: [16] },
} as const satisfies Record<string, BlockCipher>;

export type BlockCipherName = keyof typeof BLOCK_CIPHERS;

export function isBlockCipher(name: string): name is BlockCipherName {
  return Object.hasOwn(BLOCK_CIPHERS, name);
}

export function hasKeysOf(cipher: BlockCipherName, bytes: number): boolean {
  const sizes: readonly number[] = BLOCK_CIPHERS[cipher].keyBytes;
  return sizes.includes(bytes);
}

/**
 * The cipher with this key, each block for itself (ECB): the modes do the rest.
 * @throws Qcow2fsError 'unsupported' where the library that has the cipher is not installed
 */
export function blockPass(direction: Direction, cipher: BlockCipherName, key: Uint8Array): BlockPass {
  switch (cipher) {
    case 'aes':
    case 'sm4': {
      const algorithm = cipher === 'sm4' ? cipher : `aes-${key.length * 8}`;
      return opensslEcb(direction, algorithm, key) ?? nodeBlockPass(direction, algorithm, key);
    }
    case 'serpent':
    case 'twofish':
    case 'cast5':
      return nettleEcb(direction, cipher, key);
  }
}

/**
 * For a Node that keeps its OpenSSL to itself. ECB has no chaining state, so one context serves every request: `update`
 * is called over and over and `final` never. Without padding a decipher holds no block back either, which the length
 * check makes sure of.
 */
export function nodeBlockPass(direction: Direction, algorithm: string, key: Uint8Array): BlockPass {
  const create = direction === 'encrypt' ? createCipheriv : createDecipheriv;
  const context = create(`${algorithm}-ecb`, key, null).setAutoPadding(false);
  return (bytes, length) => {
    const output = context.update(bytes.subarray(0, length));
    if (output.length !== length) {
      throw new Qcow2fsError('internal', `${algorithm} turned ${length} bytes into ${output.length}`);
    }
    bytes.set(output);
  };
}
