/** From an encrypted image and a secret to the cipher of its clusters. */
import { Qcow2fsError } from '../errors.js';
import { sectorCipherSpec } from '../luks/cipher.js';
import { LUKS_HEADER_BYTES, type LuksHeader, parseLuksHeader } from '../luks/header.js';
import { legacyAesSpec } from '../luks/legacy-aes.js';
import { unlock } from '../luks/unlock.js';
import type { EncryptionSpec } from './encryption.js';
import { hex } from './format/units.js';
import { type Image, readUpTo } from './image.js';

/** @throws Qcow2fsError `format` or `unsupported` */
export function readLuksHeader(image: Image): LuksHeader {
  const pointer = image.extensions.encryption!;
  const length = Math.min(LUKS_HEADER_BYTES, pointer.length);
  try {
    return parseLuksHeader(readUpTo(image.storage, pointer.offset, length));
  } catch (error) {
    throw inImage(image, error);
  }
}

/**
 * @returns undefined for a plain image
 * @throws Qcow2fsError `secret` when it is missing or opens no key slot
 */
export function unlockImage(image: Image, secret: Uint8Array | undefined): EncryptionSpec | undefined {
  const { cryptMethod } = image.header;
  if (cryptMethod === 'none') return undefined;
  if (secret === undefined) {
    const kind = cryptMethod === 'luks' ? 'LUKS' : 'AES';
    throw new Qcow2fsError(
      'secret',
      `${image.storage.path}: the image is encrypted (${kind}); give its key with --secret-file FILE`,
    );
  }
  if (cryptMethod === 'aes') return { tweak: 'guest', cipher: legacyAesSpec(secret) };

  const header = readLuksHeader(image);
  try {
    const masterKey = unlock(header, (offset, length) => readKeyMaterial(image, offset, length), secret);
    return { tweak: 'host', cipher: sectorCipherSpec(header, masterKey) };
  } catch (error) {
    throw inImage(image, error);
  }
}

/** Nothing may be read past the length that the image gives its LUKS header. */
function readKeyMaterial(image: Image, offset: number, length: number): Buffer {
  const pointer = image.extensions.encryption!;
  const bytes =
    offset + length <= pointer.length ? readUpTo(image.storage, pointer.offset + offset, length) : undefined;
  if (bytes === undefined || bytes.length < length) {
    throw new Qcow2fsError('corrupt', `key material at ${hex(offset)} lies outside the LUKS header`);
  }
  return bytes;
}

function inImage(image: Image, error: unknown): unknown {
  if (!(error instanceof Qcow2fsError)) return error;
  return new Qcow2fsError(error.kind, `${image.storage.path}: ${error.message}`, { cause: error });
}
