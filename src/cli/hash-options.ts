/** The options of `hash`, checked. */
import os from 'node:os';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { ALGORITHM_NAMES, type Algorithm, needsTag, parseAlgorithms } from '../hash/algorithms.js';
import { type ExpectedSums, parseSums } from '../hash/expected-sums.js';
import { isPlainName } from '../hash/sums.js';
import type { ReadFlags } from './image-options.js';
import { parseThreads } from './mount-options.js';
import { absolutePath } from './paths.js';
import { parseBytes } from './units.js';

/** As commander collects them. */
export interface HashFlags extends ReadFlags {
  algorithm?: string;
  snapshot?: string;
  piecewise?: string;
  verify?: string;
  errorMap?: string;
  name?: string;
  tag?: boolean;
  threads?: string;
  json?: boolean;
}

export interface HashPlan {
  /** At least one. */
  readonly algorithms: readonly Algorithm[];
  /** Bytes; undefined for the whole disk. */
  readonly pieceBytes: number | undefined;
  /** What the disk should be, and the file that says so. */
  readonly expected: { readonly sums: ExpectedSums; readonly file: string } | undefined;
  readonly name: string;
  readonly tagged: boolean;
  readonly json: boolean;
  /** Undefined where the size of the disk decides. */
  readonly threads: number | undefined;
  /** An absolute path. */
  readonly errorMap: string | undefined;
}

export const DEFAULT_ALGORITHM = 'sha256';
export const DEFAULT_DISK_NAME = 'disk.raw';
const SECTOR_SIZE = 512;
/** More threads than this are no faster, for one of them has to hash. */
const MAX_DEFAULT_THREADS = 8;
/** A disk that is hashed before another thread has started: bytes. */
const SMALL_DISK = 32 * 1024 * 1024;
const MAX_SUMS_BYTES = 256 * 1024 * 1024;
const STDIN = 0;

/** @throws Qcow2fsError `usage`, or `host-io` when the digests to compare with cannot be read */
export function parseHashFlags(flags: HashFlags): HashPlan {
  const { algorithm, piecewise, verify, name = DEFAULT_DISK_NAME, tag = false, json = false } = flags;
  if (!isPlainName(name)) {
    throw usage(`--name ${name}: a name without control characters and "\\" is needed`);
  }
  if (verify !== undefined && piecewise !== undefined) {
    throw usage('--verify takes the size of the pieces from its file: leave out --piecewise');
  }
  if (verify !== undefined && tag) throw usage('--verify prints no digests: leave out --tag');
  const chosen = algorithm === undefined ? undefined : parseAlgorithms(algorithm);
  const pieceBytes = piecewise === undefined ? undefined : parsePieceBytes(piecewise);
  const threads = flags.threads === undefined ? undefined : parseThreads(flags.threads);
  const expected = verify === undefined ? undefined : readSums(verify, name, chosen);
  const algorithms = expected?.sums.algorithms ?? chosen ?? parseAlgorithms(DEFAULT_ALGORITHM);
  return {
    algorithms,
    pieceBytes: expected === undefined ? pieceBytes : expected.sums.pieces?.pieceBytes,
    expected,
    name,
    tagged: tag || algorithms.length > 1 || algorithms.some(needsTag),
    json,
    threads,
    errorMap: flags.errorMap === undefined ? undefined : absolutePath(flags.errorMap),
  };
}

export function describeAlgorithms(): string {
  return ALGORITHM_NAMES.join(', ');
}

/**
 * One that hashes and one that reads, at least.
 * @param size bytes of the disk
 */
export function defaultThreads(size: number): number {
  if (size <= SMALL_DISK) return 1;
  return Math.max(2, Math.min(os.availableParallelism(), MAX_DEFAULT_THREADS));
}

function parsePieceBytes(text: string): number {
  const bytes = parseBytes(text, '--piecewise');
  if (bytes >= SECTOR_SIZE && bytes % SECTOR_SIZE === 0) return bytes;
  throw usage(`--piecewise ${text}: pieces of whole sectors of ${SECTOR_SIZE} bytes are needed`);
}

/** @param file `-` for standard input */
function readSums(
  file: string,
  name: string,
  wanted: readonly Algorithm[] | undefined,
): HashPlan['expected'] {
  const shown = file === '-' ? 'standard input' : file;
  return { sums: parseSums(readBounded(file, shown), shown, name, wanted), file: shown };
}

function readBounded(file: string, shown: string): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    const fd = file === '-' ? STDIN : fs.openSync(file, 'r');
    try {
      for (let part = readPart(fd); part.length > 0 && length <= MAX_SUMS_BYTES; part = readPart(fd)) {
        parts.push(part);
        length += part.length;
      }
    } finally {
      if (fd !== STDIN) fs.closeSync(fd);
    }
  } catch (error) {
    throw new Qcow2fsError('host-io', `${shown}: cannot read the digests: ${hostReason(error)}`);
  }
  if (length > MAX_SUMS_BYTES) {
    throw usage(`${shown}: more than ${MAX_SUMS_BYTES} bytes; is this a file of digests?`);
  }
  return Buffer.concat(parts);
}

function readPart(fd: number): Buffer {
  const part = Buffer.alloc(1024 * 1024);
  return part.subarray(0, fs.readSync(fd, part));
}

function usage(message: string): Qcow2fsError {
  return new Qcow2fsError('usage', message);
}
