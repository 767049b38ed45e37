import type { SectorCipherSpec } from '../crypto/sector-cipher.js';

const KEY_BYTES = 16;

/**
 * The cipher of qcow2 encryption method 1. There is no key derivation and no check: the key is the first 16 bytes of
 * the secret, padded with zeros, and the secret ends at its first NUL byte (QEMU's crypto/block-qcow.c).
 */
export function legacyAesSpec(secret: Uint8Array): SectorCipherSpec {
  const key = new Uint8Array(KEY_BYTES);
  const nul = secret.indexOf(0);
  key.set(secret.subarray(0, Math.min(KEY_BYTES, nul === -1 ? secret.length : nul)));
  return { cipher: 'aes', mode: 'cbc', iv: 'plain64', key };
}
