/** The key of an encrypted image, from a file and never from a prompt, read as QEMU's `secret` object reads it. */
import fs from 'node:fs';
import { hostReason, Qcow2fsError } from '../errors.js';

export const SECRET_FORMATS = ['raw', 'base64'] as const;
export type SecretFormat = (typeof SECRET_FORMATS)[number];

const MAX_SECRET_BYTES = 1024 * 1024;

/**
 * Raw secrets are every byte of the file, a trailing newline included. Base64 may be broken into lines.
 * @throws Qcow2fsError `secret`
 */
export function readSecret(file: string, format: SecretFormat): Uint8Array {
  const bytes = readBounded(file);
  return format === 'raw' ? bytes : decodeBase64(bytes, file);
}

/** Reads to the end, so that pipes and /dev/fd/N work. */
function readBounded(file: string): Uint8Array {
  const bytes = Buffer.alloc(MAX_SECRET_BYTES + 1);
  let length = 0;
  try {
    const fd = fs.openSync(file, 'r');
    try {
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = fs.readSync(fd, bytes, length, bytes.length - length, null);
      }
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    throw new Qcow2fsError('secret', `${file}: cannot read the secret: ${hostReason(error)}`);
  }
  if (length > MAX_SECRET_BYTES) {
    throw new Qcow2fsError(
      'secret',
      `${file}: a secret has at most ${MAX_SECRET_BYTES} bytes; is this the right file?`,
    );
  }
  return Uint8Array.from(bytes.subarray(0, length));
}

function decodeBase64(bytes: Uint8Array, file: string): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').replaceAll('\n', '');
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw new Qcow2fsError(
      'secret',
      `${file}: is not valid base64; for a secret as it is: --secret-format raw`,
    );
  }
  return Uint8Array.from(Buffer.from(text, 'base64'));
}
