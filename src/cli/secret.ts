/** The keys of encrypted images, from files and never from a prompt, read as QEMU's `secret` object reads them. */
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs, { type Stats } from '../fs.js';
import { isDescriptorPath } from '../host/descriptors.js';
import { shellWord } from '../printable.js';
import type { ImageSecret } from '../qcow2/secrets.js';
import { warn } from './output.js';
import { absolutePath } from './paths.js';

export const SECRET_FORMATS = ['raw', 'base64'] as const;
export type SecretFormat = (typeof SECRET_FORMATS)[number];

export interface GivenSecrets {
  /** For every image that has none of its own. */
  readonly secret: Uint8Array | undefined;
  readonly imageSecrets: readonly ImageSecret[];
}

const MAX_SECRET_BYTES = 1024 * 1024;
/** Before the name of a systemd credential, in place of a file. */
const CREDENTIAL = 'credential:';
const READABLE_BY_ALL = 0o004;

/**
 * @param words `FILE`, or `IMAGE=FILE` for one image of the chain; `credential:NAME` instead of a file
 * @throws Qcow2fsError `secret`, or `usage` for two secrets for the same images
 */
export function readSecrets(words: readonly string[], format: SecretFormat): GivenSecrets {
  let common: Uint8Array | undefined;
  const own: ImageSecret[] = [];
  for (const { image, file } of words.map(parseWord)) {
    if (image === undefined ? common !== undefined : own.some((other) => other.image === image)) {
      const which = image === undefined ? 'all images' : image;
      throw new Qcow2fsError(
        'usage',
        `--secret-file: more than one for ${which}; for single ones: IMAGE=FILE`,
      );
    }
    const secret = readSecret(file, format);
    if (image === undefined) common = secret;
    else own.push({ image, secret });
  }
  return { secret: common, imageSecrets: own };
}

function parseWord(word: string): { image: string | undefined; file: string } {
  const equals = word.indexOf('=');
  if (equals < 1 || fs.existsSync(word)) return { image: undefined, file: resolveCredential(word) };
  const image = word.slice(0, equals);
  // A daemon's working directory is /.
  const absolute = image.includes('/') ? absolutePath(image) : image;
  return { image: absolute, file: resolveCredential(word.slice(equals + 1)) };
}

/** Where systemd puts what a unit loads (systemd.exec(5), LoadCredential). */
function resolveCredential(file: string): string {
  if (!file.startsWith(CREDENTIAL)) return file;
  const name = file.slice(CREDENTIAL.length);
  const directory = process.env['CREDENTIALS_DIRECTORY'];
  if (directory === undefined || directory === '') {
    throw new Qcow2fsError(
      'secret',
      `${file}: there are no credentials here; in a unit: LoadCredential=${name}:FILE`,
    );
  }
  if (name === '' || name === '..' || name === '.' || name.includes('/')) {
    throw new Qcow2fsError('secret', `${file}: a credential has a name without "/"`);
  }
  return path.join(directory, name);
}

/**
 * Raw secrets are every byte of the file, a trailing newline included. Base64 may be broken into lines.
 * @throws Qcow2fsError `secret`
 */
export function readSecret(file: string, format: SecretFormat): Uint8Array {
  const bytes = readBounded(file);
  if (format === 'raw') return bytes;
  const decoded = decodeBase64(bytes);
  bytes.fill(0);
  if (decoded !== undefined) return decoded;
  throw new Qcow2fsError(
    'secret',
    `${file}: is not valid base64; for a secret as it is: --secret-format raw`,
  );
}

/** Reads to the end, so that pipes and /dev/fd/N work. */
function readBounded(file: string): Uint8Array {
  const bytes = Buffer.alloc(MAX_SECRET_BYTES + 1);
  let length = 0;
  try {
    const fd = fs.openSync(file, 'r');
    try {
      warnOfReaders(file, fs.fstatSync(fd));
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = fs.readSync(fd, bytes, length, bytes.length - length, null);
      }
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    throw new Qcow2fsError('secret', `${file}: cannot read the secret: ${hostReason(error)}`);
  }
  const secret = Uint8Array.from(bytes.subarray(0, length));
  bytes.fill(0, 0, length);
  if (length <= MAX_SECRET_BYTES) return secret;
  secret.fill(0);
  throw new Qcow2fsError(
    'secret',
    `${file}: a secret has at most ${MAX_SECRET_BYTES} bytes; is this the right file?`,
  );
}

/** What comes through a descriptor, somebody else has opened, and its name says nothing. */
function warnOfReaders(file: string, stat: Stats): void {
  if (!stat.isFile() || (stat.mode & READABLE_BY_ALL) === 0 || isDescriptorPath(file)) return;
  warn(`warning: every user of this machine may read ${file}: chmod 600 ${shellWord(file)}`);
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const NEWLINE = 0x0a;
const PADDING = 0x3d;

/**
 * RFC 4648, section 4; newlines are passed over. Not by way of a string, since those cannot be wiped.
 * @returns undefined for anything else
 */
function decodeBase64(text: Uint8Array): Uint8Array | undefined {
  const digits = text.filter((byte) => byte !== NEWLINE);
  const padding = digits.at(-1) !== PADDING ? 0 : digits.at(-2) !== PADDING ? 1 : 2;
  const count = digits.length - padding;
  if (digits.length % 4 !== 0) return undefined;
  const decoded = new Uint8Array((digits.length / 4) * 3 - padding);
  let bits = 0;
  let value = 0;
  let at = 0;
  for (let i = 0; i < count; i++) {
    const digit = ALPHABET.indexOf(String.fromCharCode(digits[i]!));
    if (digit === -1) return undefined;
    value = ((value << 6) | digit) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    decoded[at++] = value >> bits;
  }
  digits.fill(0);
  return decoded;
}
