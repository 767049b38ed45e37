/** What the texts of a LUKS header say about its cipher. */

import { isBlockCipher } from '../crypto/block-cipher.js';
import { type HashName, hashNamed } from '../crypto/hash.js';
import {
  checkSectorCipher,
  MODES,
  type SectorCipherParameters,
  type SectorCipherSpec,
} from '../crypto/sector-cipher.js';
import { Qcow2fsError } from '../errors.js';
import type { LuksHeader } from './header.js';

/** The words of the header, known to this program or not. */
export interface CipherDescription {
  readonly cipher: string;
  readonly mode: string;
  readonly ivGenerator: string | undefined;
  readonly ivHash: string | undefined;
  /** Of the cipher; an XTS master key holds two such keys. */
  readonly keyBits: number;
}

type CipherFields = Pick<LuksHeader, 'cipherName' | 'cipherMode' | 'keyBytes'>;

/** For showing to people: any text is fine. */
export function describeCipher(header: CipherFields): CipherDescription {
  const [mode, iv] = splitAtFirst(header.cipherMode, '-');
  const [ivGenerator, ivHash] = iv === undefined ? [undefined, undefined] : splitAtFirst(iv, ':');
  const keyBits = mode === 'xts' ? header.keyBytes * 4 : header.keyBytes * 8;
  return { cipher: header.cipherName, mode, ivGenerator, ivHash, keyBits };
}

/**
 * The cipher of the header, if this program knows it.
 * @throws Qcow2fsError 'unsupported', or 'format' when the cipher mode is not `<mode>-<iv generator>[:<hash>]`
 */
export function cipherParameters(header: CipherFields): SectorCipherParameters {
  const { cipher, mode, ivGenerator, ivHash } = describeCipher(header);
  if (ivGenerator === undefined) {
    throw new Qcow2fsError(
      'format',
      `LUKS header: cipher mode ${JSON.stringify(mode)} names no IV generator`,
    );
  }
  const known = MODES.find((name) => name === mode);
  if (!isBlockCipher(cipher) || known === undefined) {
    throw new Qcow2fsError('unsupported', `cipher ${cipher}-${header.cipherMode} is not supported`);
  }
  if (ivGenerator !== 'plain' && ivGenerator !== 'plain64' && ivGenerator !== 'essiv') {
    throw new Qcow2fsError('unsupported', `IV generator ${JSON.stringify(ivGenerator)} is not supported`);
  }
  // As in QEMU: a hash after plain or plain64 must be one that exists, and is then ignored.
  const hash = ivHash === undefined ? undefined : hashNamed(ivHash);
  const parameters = { cipher, mode: known, ...ivParameters(ivGenerator, hash) } as const;
  checkSectorCipher(parameters, header.keyBytes);
  return parameters;
}

function ivParameters(
  iv: SectorCipherParameters['iv'],
  hash: HashName | undefined,
): Pick<SectorCipherParameters, 'iv' | 'ivHash'> {
  if (iv !== 'essiv') return { iv };
  if (hash === undefined) {
    throw new Qcow2fsError('format', 'LUKS header: IV generator essiv names no hash');
  }
  return { iv, ivHash: hash };
}

/** @throws Qcow2fsError as `cipherParameters` does */
export function sectorCipherSpec(header: CipherFields, masterKey: Uint8Array): SectorCipherSpec {
  return { ...cipherParameters(header), key: masterKey };
}

function splitAtFirst(text: string, separator: string): [before: string, after: string | undefined] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
