/**
 * Disk encryption by 512-byte sectors. Node makes a cipher object per IV, which is slow sector by sector; here every
 * mode is a few ECB passes over many sectors, and the chaining or the tweaks are XORs over 32-bit words.
 */

import { endianness } from 'node:os';
import { Qcow2fsError } from '../errors.js';
import { cbcMode } from './cbc.js';
import { ecbMode, type ModeCipher, SECTOR_BYTES } from './ecb.js';
import { DIGEST_BYTES, type HashName } from './hash.js';
import { essivIvs, type IvGenerator, plain64Ivs, plainIvs } from './iv.js';
import { xtsMode } from './xts.js';

/** Everything about a cipher but its key. */
export interface SectorCipherParameters {
  readonly cipher: 'aes';
  readonly mode: 'xts' | 'cbc' | 'ecb';
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
   * In place, `length` bytes of whole sectors from byte `start` of the buffer; `firstSector` (up to 2^44) is the
   * number of the first one. The memory must not change meanwhile.
   */
  decrypt(buffer: Buffer, start: number, length: number, firstSector: number): void;
  /** As `decrypt`, the other way. */
  encrypt(buffer: Buffer, start: number, length: number, firstSector: number): void;
}

/**
 * Sectors that one pass takes: few enough for the CPU cache, enough to spread the cost of the call. Measured; CBC
 * encryption makes 32 calls a piece and doubles its speed between 128 and 512.
 */
const PIECE_SECTORS = { xts: 128, cbc: 512 };

const MAX_FIRST_SECTOR = 2 ** 44;

/**
 * Whether `createSectorCipher` takes these parameters with a key of that size.
 * @throws Qcow2fsError 'unsupported'
 */
export function checkSectorCipher(parameters: SectorCipherParameters, keyBytes: number): void {
  const { cipher, mode, iv, ivHash } = parameters;
  const aesBytes = mode === 'xts' ? keyBytes / 2 : keyBytes;
  if (aesBytes !== 16 && aesBytes !== 24 && aesBytes !== 32) {
    throw new Qcow2fsError('unsupported', `${cipher}-${mode} has no keys of ${keyBytes} bytes`);
  }
  if (iv !== 'essiv') return;
  if (ivHash === undefined) throw new Qcow2fsError('unsupported', 'IV generator essiv needs a hash');
  const digestBytes: number = DIGEST_BYTES[ivHash];
  if (digestBytes !== 16 && digestBytes !== 24 && digestBytes !== 32) {
    throw new Qcow2fsError(
      'unsupported',
      `IV generator essiv:${ivHash} is not supported: AES has no keys of ${digestBytes} bytes`,
    );
  }
}

/** @throws Qcow2fsError 'unsupported' for what `checkSectorCipher` refuses. */
export function createSectorCipher(spec: SectorCipherSpec): SectorCipher {
  checkSectorCipher(spec, spec.key.length);
  if (endianness() !== 'LE') {
    throw new Qcow2fsError('unsupported', 'encrypted images are not supported on big-endian machines');
  }
  const mode = modeOf(spec);
  // A copy of its own for each piece of a buffer that is not aligned to words.
  const scratch = new Int32Array((mode.maxSectors * SECTOR_BYTES) / 4);

  return {
    decrypt: (buffer, start, length, firstSector) =>
      inPieces(mode.decrypt, mode.maxSectors, scratch, buffer, start, length, firstSector),
    encrypt: (buffer, start, length, firstSector) =>
      inPieces(mode.encrypt, mode.maxSectors, scratch, buffer, start, length, firstSector),
  };
}

function modeOf(spec: SectorCipherSpec): ModeCipher {
  switch (spec.mode) {
    case 'xts':
      return xtsMode(spec.key, ivsOf(spec, PIECE_SECTORS.xts), PIECE_SECTORS.xts);
    case 'cbc':
      return cbcMode(spec.key, ivsOf(spec, PIECE_SECTORS.cbc), PIECE_SECTORS.cbc);
    case 'ecb':
      return ecbMode(spec.key);
  }
}

function ivsOf(spec: SectorCipherSpec, maxSectors: number): IvGenerator {
  switch (spec.iv) {
    case 'plain':
      return plainIvs(maxSectors);
    case 'plain64':
      return plain64Ivs(maxSectors);
    case 'essiv':
      return essivIvs(maxSectors, spec.ivHash!, spec.key);
  }
}

function inPieces(
  run: ModeCipher['decrypt'],
  maxSectors: number,
  scratch: Int32Array,
  buffer: Buffer,
  start: number,
  length: number,
  firstSector: number,
): void {
  checkRange(buffer, start, length, firstSector);
  const end = start + length;
  const pieceBytes = maxSectors * SECTOR_BYTES;
  const aligned = (buffer.byteOffset + start) % 4 === 0;

  for (let at = start, sector = firstSector; at < end; at += pieceBytes, sector += maxSectors) {
    const bytes = Math.min(pieceBytes, end - at);
    if (aligned) {
      run(new Int32Array(buffer.buffer, buffer.byteOffset + at, bytes / 4), sector);
    } else {
      const copy = Buffer.from(scratch.buffer, 0, bytes);
      buffer.copy(copy, 0, at, at + bytes);
      run(scratch.subarray(0, bytes / 4), sector);
      copy.copy(buffer, at);
    }
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
