import type { SectorCipherSpec } from '../crypto/sector-cipher.js';

const KEY_BYTES = 16;

/**
 * The cipher of qcow2 encryption method 1. There is no key derivation and no check: the key is the first 16 bytes of
 * the secret, padded with zeros, and the secret ends at its first NUL byte (QEMU's crypto/block-qcow.c).
 */
export function legacyAesSpec(secret: Uint8Array): SectorCipherSpec {
  const key = new Uint8Array(KEY_BYTES);
  key.set(untilNul(secret).subarray(0, KEY_BYTES));
  return { cipher: 'aes', mode: 'cbc', iv: 'plain64', key };
}

/** As QEMU takes any secret. */
export function untilNul(secret: Uint8Array): Uint8Array {
  const nul = secret.indexOf(0);
  return nul === -1 ? secret : secret.subarray(0, nul);
}
