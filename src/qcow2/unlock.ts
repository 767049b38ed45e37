/** From an encrypted image and a secret to the cipher of its clusters. */
import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import type { SectorCipherSpec } from '../crypto/sector-cipher.js';
import { Qcow2fsError } from '../errors.js';
import { sharedKey } from '../host/secrecy.js';
import { sectorCipherSpec } from '../luks/cipher.js';
import { type CipherWords, createLuksHeader, type Passphrase } from '../luks/create.js';
import { LUKS_HEADER_BYTES, type LuksHeader, parseLuksHeader } from '../luks/header.js';
import { legacyAesSpec, untilNul } from '../luks/legacy-aes.js';
import { type IterationBudget, unlock } from '../luks/unlock.js';
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

/** An encrypted image, and how an overlay of it is to be encrypted. */
export interface OpenedImage {
  readonly encryption: EncryptionSpec;
  readonly words: CipherWords;
  readonly passphrase: Passphrase;
}

/** Of overlays of legacy AES images: QEMU's own choice. */
const MODERN: CipherWords = {
  cipherName: 'aes',
  cipherMode: 'xts-plain64',
  hashSpec: 'sha256',
  keyBytes: 64,
};
/** A good part of a second. */
const MODERN_ITERATIONS = 500_000;

/**
 * @param image one that is encrypted
 * @param isBacking it stands below another one
 * @param budget of the whole chain
 * @throws Qcow2fsError `secret` when it is missing or opens no key slot
 */
export function unlockImage(
  image: Image,
  secret: Uint8Array | undefined,
  isBacking: boolean,
  budget: IterationBudget,
): OpenedImage {
  const { cryptMethod } = image.header;
  const { path } = image.storage;
  if (secret === undefined) {
    const kind = cryptMethod === 'luks' ? 'LUKS' : 'AES';
    const file = isBacking ? `${basename(path)}=FILE` : 'FILE';
    throw new Qcow2fsError(
      'secret',
      `${path}: the image is encrypted (${kind}); give its key with --secret-file ${file}`,
    );
  }
  if (cryptMethod === 'aes') {
    return {
      encryption: specOf('guest', legacyAesSpec(secret)),
      words: MODERN,
      passphrase: { secret: untilNul(secret), iterations: MODERN_ITERATIONS },
    };
  }

  const header = readLuksHeader(image);
  try {
    const read = (offset: number, length: number): Buffer => readKeyMaterial(image, offset, length);
    const { masterKey, ...passphrase } = unlock(header, read, secret, budget);
    return { encryption: specOf('host', sectorCipherSpec(header, masterKey)), words: header, passphrase };
  } catch (error) {
    const hint = isBacking && isWrongSecret(error) ? `; its own: --secret-file ${basename(path)}=FILE` : '';
    throw inImage(image, error, hint);
  }
}

/**
 * A header for a new image above that one, with a key of its own: with the same key, the same sector at the same place
 * of both files would have the same tweak or keystream, and who has both files could compare them.
 * @param isTemporary nobody will open it again, so no secret does
 */
export function encryptOverlay(
  { words, passphrase }: OpenedImage,
  isTemporary: boolean,
): { header: Buffer; encryption: EncryptionSpec } {
  const masterKey = randomBytes(words.keyBytes);
  const header = createLuksHeader(words, masterKey, isTemporary ? undefined : passphrase);
  return { header, encryption: specOf('host', sectorCipherSpec(words, masterKey)) };
}

function isWrongSecret(error: unknown): boolean {
  return error instanceof Qcow2fsError && error.kind === 'secret';
}

/** With the key where all threads find it, and nowhere else. */
function specOf(tweak: EncryptionSpec['tweak'], cipher: SectorCipherSpec): EncryptionSpec {
  const key = sharedKey(cipher.key);
  cipher.key.fill(0);
  return { tweak, cipher: { ...cipher, key } };
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

function inImage(image: Image, error: unknown, hint = ''): unknown {
  if (!(error instanceof Qcow2fsError)) return error;
  return new Qcow2fsError(error.kind, `${image.storage.path}: ${error.message}${hint}`, { cause: error });
}
