import { getHashes } from 'node:crypto';
import { Qcow2fsError } from '../errors.js';

/** The hashes a LUKS1 header may name, as QEMU and OpenSSL both spell them, with their digest sizes in bytes. */
export const DIGEST_BYTES = {
  md5: 16,
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
  sm3: 32,
} as const;

export type HashName = keyof typeof DIGEST_BYTES;

/**
 * The hash that a header names. Names are compared byte for byte, as QEMU compares them: `SHA256` is unknown.
 * @throws Qcow2fsError 'unsupported'
 */
export function hashNamed(name: string): HashName {
  if (!Object.hasOwn(DIGEST_BYTES, name)) {
    throw new Qcow2fsError('unsupported', `hash ${JSON.stringify(name)} is not supported`);
  }
  if (!getHashes().includes(name)) {
    throw new Qcow2fsError('unsupported', `hash ${name} is not supported by this build of Node and OpenSSL`);
  }
  return name as HashName;
}
