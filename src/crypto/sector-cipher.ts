/**
 * Disk encryption by 512-byte sectors. A cipher call per sector would cost more than the cipher itself; here every mode
 * is a few ECB passes over many sectors, and the chaining or the tweaks are XORs over all of them.
 */

import { endianness } from 'node:os';
import { Qcow2fsError } from '../errors.js';
import { BLOCK_CIPHERS, type BlockCipherName, hasKeysOf } from './block-cipher.js';
import { cbcMode } from './cbc.js';
import { ctrMode } from './ctr.js';
import { ecbMode, type ModeCipher, SECTOR_BYTES } from './ecb.js';
import { DIGEST_BYTES, type HashName } from './hash.js';
import { essivIvs, type IvGenerator, plain64Ivs, plainIvs } from './iv.js';
import { PIECE_BYTES, workArea } from './work-area.js';
import { xtsMode } from './xts.js';

export const MODES = ['xts', 'cbc', 'ecb', 'ctr'] as const;

/** Everything about a cipher but its key. */
export interface SectorCipherParameters {
  readonly cipher: BlockCipherName;
  readonly mode: (typeof MODES)[number];
  readonly iv: 'plain' | 'plain64' | 'essiv';
  /** With `essiv` only. */
  readonly ivHash?: HashName;
}

/** Survives `structuredClone`, so that worker threads can make their own cipher. */
export interface SectorCipherSpec extends SectorCipherParameters {
  /** With XTS both halves: first the data key, then the tweak key. */
  readonly key: Uint8Array;
}

export interface SectorCipher {
  /**
   * The memory in which the thread's ciphers work, `PIECE_BYTES` long: sectors at its start are transformed without
   * being copied. Its content is lost by every call with another buffer.
   */
  readonly work: Buffer;
  /**
   * In place, `length` bytes of whole sectors from byte `start` of the buffer; `firstSector` (up to 2^44) is the
   * number of the first one. The memory must not change meanwhile.
   */
  decrypt(buffer: Buffer, start: number, length: number, firstSector: number): void;
  /** As `decrypt`, the other way. */
  encrypt(buffer: Buffer, start: number, length: number, firstSector: number): void;
}

const MAX_FIRST_SECTOR = 2 ** 44;

/**
 * Whether `createSectorCipher` takes these parameters with a key of that size.
 * @throws Qcow2fsError 'unsupported'
 */
export function checkSectorCipher(parameters: SectorCipherParameters, keyBytes: number): void {
  const { cipher, mode, iv, ivHash } = parameters;
  const cipherKeyBytes = mode === 'xts' ? keyBytes / 2 : keyBytes;
  if (mode === 'xts' && BLOCK_CIPHERS[cipher].blockBytes !== 16) {
    throw new Qcow2fsError('unsupported', `${cipher}-${mode} does not exist: XTS needs blocks of 16 bytes`);
  }
  if (!hasKeysOf(cipher, cipherKeyBytes)) {
    throw new Qcow2fsError('unsupported', `${cipher}-${mode} has no keys of ${keyBytes} bytes`);
  }
  if (iv !== 'essiv') return;
  if (ivHash === undefined) throw new Qcow2fsError('unsupported', 'IV generator essiv needs a hash');
  const digestBytes: number = DIGEST_BYTES[ivHash];
  if (!hasKeysOf(cipher, digestBytes)) {
    throw new Qcow2fsError(
      'unsupported',
      `IV generator essiv:${ivHash} is not supported: ${cipher} has no keys of ${digestBytes} bytes`,
    );
  }
}

/** @throws Qcow2fsError 'unsupported' for what `checkSectorCipher` refuses. */
export function createSectorCipher(spec: SectorCipherSpec): SectorCipher {
  checkSectorCipher(spec, spec.key.length);
  if (endianness() !== 'LE') {
    throw new Qcow2fsError('unsupported', 'encrypted images are not supported on big-endian machines');
  }
  const { decrypt, encrypt } = modeOf(spec);
  const work = workArea().data;
  return {
    work,
    decrypt: (buffer, start, length, firstSector) =>
      inPieces(decrypt, work, buffer, start, length, firstSector),
    encrypt: (buffer, start, length, firstSector) =>
      inPieces(encrypt, work, buffer, start, length, firstSector),
  };
}

function modeOf({ cipher, mode, ...spec }: SectorCipherSpec): ModeCipher {
  const { key } = spec;
  if (mode === 'ecb') return ecbMode(cipher, key);
  const ivs = ivsOf(cipher, spec);
  switch (mode) {
    case 'xts':
      return xtsMode(cipher, key, ivs);
    case 'cbc':
      return cbcMode(cipher, key, ivs);
    case 'ctr':
      return ctrMode(cipher, key, ivs);
  }
}

function ivsOf(
  cipher: BlockCipherName,
  { iv, ivHash, key }: Pick<SectorCipherSpec, 'iv' | 'ivHash' | 'key'>,
): IvGenerator {
  switch (iv) {
    case 'plain':
      return plainIvs(cipher);
    case 'plain64':
      return plain64Ivs(cipher);
    case 'essiv':
      return essivIvs(cipher, ivHash!, key);
  }
}

function inPieces(
  run: ModeCipher['decrypt'],
  work: Buffer,
  buffer: Buffer,
  start: number,
  length: number,
  firstSector: number,
): void {
  checkRange(buffer, start, length, firstSector);
  for (let done = 0; done < length; done += PIECE_BYTES) {
    const bytes = Math.min(PIECE_BYTES, length - done);
    const at = start + done;
    const inPlace = buffer === work && at === 0;
    if (!inPlace) buffer.copy(work, 0, at, at + bytes);
    run(bytes / SECTOR_BYTES, firstSector + done / SECTOR_BYTES);
    if (!inPlace) work.copy(buffer, at, 0, bytes);
  }
}

function checkRange(buffer: Buffer, start: number, length: number, firstSector: number): void {
  const inBuffer = Number.isInteger(start) && start >= 0 && length >= 0 && start + length <= buffer.length;
  const sectors = length / SECTOR_BYTES;
  const numbered =
    Number.isInteger(firstSector) && firstSector >= 0 && firstSector + sectors <= MAX_FIRST_SECTOR * 2;
  if (!inBuffer || !numbered || !Number.isInteger(sectors)) {
    throw new Qcow2fsError(
      'internal',
      `no whole sectors: ${length} bytes at ${start} of ${buffer.length}, first sector ${firstSector}`,
    );
  }
}
