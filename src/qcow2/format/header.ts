/**
 * The qcow2 header (specification: "Header").
 *
 *   OFFSET  SIZE  DESCRIPTION
 *        0    72  version 2 and 3
 *       72    32  version 3: feature masks, refcount order, header length
 *      104     8  version 3, where header length says so: compression type and padding
 */
import { Qcow2fsError } from '../../errors.js';
import { struct } from '../../struct.js';
import {
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
} from './limits.js';
import { describeForeign } from './magic.js';
import { hex, SECTOR_SIZE } from './units.js';

const MAGIC = 0x5146_49fb; // "QFI\xfb"

const headerV2 = struct('qcow2 header', 'be', 72, {
  magic: [0, 'u32'],
  version: [4, 'u32'],
  backingFileOffset: [8, 'u64'],
  backingFileSize: [16, 'u32'],
  clusterBits: [20, 'u32'],
  size: [24, 'u64'],
  cryptMethod: [32, 'u32'],
  l1Size: [36, 'u32'],
  l1TableOffset: [40, 'u64'],
  refcountTableOffset: [48, 'u64'],
  refcountTableClusters: [56, 'u32'],
  snapshotCount: [60, 'u32'],
  snapshotsOffset: [64, 'u64'],
});

const headerV3 = struct('qcow2 version 3 header', 'be', 32, {
  incompatibleFeatures: [0, 'mask64'],
  compatibleFeatures: [8, 'mask64'],
  autoclearFeatures: [16, 'mask64'],
  refcountOrder: [24, 'u32'],
  headerLength: [28, 'u32'],
});

/** Bytes that tell everything but the extensions and the backing file name. */
export const HEADER_BYTES = 112;
const COMPRESSION_TYPE_OFFSET = 104;

export const Incompatible = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalDataFile: 1n << 2n,
  compressionType: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
export const Autoclear = { bitmaps: 1n << 0n, rawExternalData: 1n << 1n } as const;
export const KNOWN_INCOMPATIBLE = Object.values(Incompatible).reduce((mask, bit) => mask | bit, 0n);

export const CRYPT_METHODS = ['none', 'aes', 'luks'] as const;
export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;

export interface Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes of the guest disk: the header's value rounded down to whole sectors, as QEMU does. */
  readonly size: number;
  readonly backingFileOffset: number;
  readonly backingFileSize: number;
  readonly cryptMethod: (typeof CRYPT_METHODS)[number];
  /** Entries. */
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountBits: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatibleFeatures: bigint;
  readonly compatibleFeatures: bigint;
  readonly autoclearFeatures: bigint;
  /** Bytes; extensions start there. */
  readonly headerLength: number;
  readonly compressionType: (typeof COMPRESSION_TYPES)[number];
}

/**
 * Decodes and checks a header. Unknown incompatible features are not refused here: only the extensions know their
 * names (see `features.ts`).
 *
 * @param bytes the first `HEADER_BYTES` of the file, and for what is no image `MAGIC_BYTES`; or all of a shorter one
 * @param path names the image in messages
 * @throws Qcow2fsError `format` or `unsupported`
 */
export function parseHeader(bytes: Buffer, path: string): Header {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  checkMagic(bytes, path);
  if (bytes.length < headerV2.size) {
    throw bad(`the header is cut short: ${bytes.length} of ${headerV2.size} bytes; the file is truncated`);
  }
  const version = bytes.readUInt32BE(headerV2.offsets.version);
  if (version === 1) throw unsupported(path, describeForeign(bytes, path)!);
  if (version !== 2 && version !== 3) throw unsupported(path, `qcow2 version ${version} is unknown`);
  if (version === 3 && bytes.length < headerV2.size + headerV3.size) {
    throw bad(`the header is cut short: ${bytes.length} of 104 bytes; the file is truncated`);
  }

  const clusterBits = bytes.readUInt32BE(headerV2.offsets.clusterBits);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw bad(`cluster_bits is ${clusterBits}; ${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS} are valid`);
  }
  const size = bytes.readBigUInt64BE(headerV2.offsets.size);
  if (size > Number.MAX_SAFE_INTEGER && size < 2n ** 63n) {
    throw unsupported(path, `a disk of ${size} bytes; at most ${Number.MAX_SAFE_INTEGER} are supported`);
  }
  const v2 = readChecked(() => headerV2.read(bytes), bad);
  const clusterSize = 2 ** clusterBits;
  const v3 = version === 3 ? headerV3.read(bytes, headerV2.size) : undefined;
  const header: Header = {
    ...v2,
    version,
    clusterSize,
    size: v2.size - (v2.size % SECTOR_SIZE),
    cryptMethod: cryptMethodOf(v2.cryptMethod, path),
    refcountBits: 2 ** refcountOrderOf(v3?.refcountOrder ?? 4, bad),
    incompatibleFeatures: v3?.incompatibleFeatures ?? 0n,
    compatibleFeatures: v3?.compatibleFeatures ?? 0n,
    autoclearFeatures: v3?.autoclearFeatures ?? 0n,
    headerLength: v3 ? headerLengthOf(v3.headerLength, clusterSize, bad) : headerV2.size,
    compressionType: v3 ? compressionTypeOf(bytes, v3, path) : 'zlib',
  };
  checkTables(header, v2.size, bad);
  const isRaw = (header.autoclearFeatures & Autoclear.rawExternalData) !== 0n;
  if (isRaw && !hasFeature(header, Incompatible.externalDataFile)) {
    throw bad('autoclear feature bit 1 is set (raw external data), but the image has no external data file');
  }
  return header;
}

/** Header fields that are written one by one; those given together must be neighbours, in file order. */
export type HeaderFields =
  | { readonly size: number }
  | { readonly l1Size: number; readonly l1TableOffset: number }
  | { readonly refcountTableOffset: number; readonly refcountTableClusters: number }
  | { readonly snapshotsOffset: number }
  | { readonly incompatibleFeatures: bigint }
  | { readonly autoclearFeatures: bigint };

/** The bytes of the given fields alone, and where they belong. */
export function encodeField(fields: HeaderFields): { readonly offset: number; readonly bytes: Buffer } {
  const whole = Buffer.alloc(headerV2.size + headerV3.size);
  headerV2.write(whole, 0, fields as Parameters<typeof headerV2.write>[2]);
  headerV3.write(whole, headerV2.size, fields as Parameters<typeof headerV3.write>[2]);
  const offsets = Object.keys(fields).map(
    (name) =>
      (headerV2.offsets as Record<string, number>)[name] ??
      headerV2.size + (headerV3.offsets as Record<string, number>)[name]!,
  );
  const first = Math.min(...offsets);
  const last = Math.max(...offsets);
  const lastBytes =
    last === headerV2.offsets.refcountTableClusters || last === headerV2.offsets.l1Size ? 4 : 8;
  return { offset: first, bytes: whole.subarray(first, last + lastBytes) };
}

/**
 * `headerLength` bytes that `parseHeader` turns into the same header; what it does not know of a longer one is zero.
 * Extensions and the backing file name are the caller's.
 */
export function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(header.headerLength);
  headerV2.write(bytes, 0, {
    ...header,
    magic: MAGIC,
    cryptMethod: CRYPT_METHODS.indexOf(header.cryptMethod),
  });
  if (header.version === 2) return bytes;
  headerV3.write(bytes, headerV2.size, { ...header, refcountOrder: Math.log2(header.refcountBits) });
  if (header.headerLength > COMPRESSION_TYPE_OFFSET) {
    bytes.writeUInt8(COMPRESSION_TYPES.indexOf(header.compressionType), COMPRESSION_TYPE_OFFSET);
  }
  return bytes;
}

export function hasFeature(header: Header, bit: bigint): boolean {
  return (header.incompatibleFeatures & bit) !== 0n;
}

/** Guest bytes that one L1 entry maps. */
export function bytesPerL1Entry(header: Header): number {
  const entryBytes = hasFeature(header, Incompatible.extendedL2) ? 16 : 8;
  return (header.clusterSize / entryBytes) * header.clusterSize;
}

/**
 * The offset and size rules that every table shares.
 * @param length bytes
 */
export function checkTable(
  what: string,
  offset: number,
  length: number,
  maxLength: number,
  clusterSize: number,
  bad: (what: string) => Qcow2fsError,
): void {
  if (length > maxLength) throw bad(`the ${what} takes ${length} bytes; ${maxLength} are allowed`);
  if (offset % clusterSize !== 0) {
    throw bad(
      `the ${what} starts at ${hex(offset)}, which is no multiple of the cluster size ${clusterSize}`,
    );
  }
}

function unsupported(path: string, what: string): Qcow2fsError {
  return new Qcow2fsError('unsupported', `${path}: ${what}`);
}

function checkMagic(bytes: Buffer, path: string): void {
  if (bytes.length >= 4 && bytes.readUInt32BE(0) === MAGIC) return;
  const looks =
    bytes.length === 0
      ? 'the file is empty'
      : (describeForeign(bytes, path) ?? 'it does not start with the bytes "QFI\\xfb"');
  throw new Qcow2fsError('format', `${path}: not a qcow2 image: ${looks}`);
}

function readChecked<T>(read: () => T, bad: (what: string) => Qcow2fsError): T {
  try {
    return read();
  } catch (error) {
    throw bad(`a header field is out of range: ${(error as Error).message}`);
  }
}

function cryptMethodOf(method: number, path: string): Header['cryptMethod'] {
  const name = CRYPT_METHODS[method];
  if (name === undefined) throw unsupported(path, `encryption method ${method} is unknown`);
  return name;
}

function refcountOrderOf(order: number, bad: (what: string) => Qcow2fsError): number {
  if (order > MAX_REFCOUNT_ORDER) {
    throw bad(`refcount_order is ${order}; 0 to ${MAX_REFCOUNT_ORDER} are valid`);
  }
  return order;
}

function headerLengthOf(length: number, clusterSize: number, bad: (what: string) => Qcow2fsError): number {
  if (length < COMPRESSION_TYPE_OFFSET || length > clusterSize) {
    throw bad(`header_length is ${length}; ${COMPRESSION_TYPE_OFFSET} to ${clusterSize} are valid`);
  }
  return length;
}

function compressionTypeOf(
  bytes: Buffer,
  v3: { incompatibleFeatures: bigint; headerLength: number },
  path: string,
): Header['compressionType'] {
  const present = v3.headerLength > COMPRESSION_TYPE_OFFSET && bytes.length > COMPRESSION_TYPE_OFFSET;
  const type = present ? bytes.readUInt8(COMPRESSION_TYPE_OFFSET) : 0;
  const flagged = (v3.incompatibleFeatures & Incompatible.compressionType) !== 0n;
  if (flagged !== (type !== 0)) {
    const bit = `incompatible feature bit 3 is ${flagged ? 'set' : 'clear'}`;
    throw new Qcow2fsError('format', `${path}: compression type ${type} and the header disagree: ${bit}`);
  }
  const name = COMPRESSION_TYPES[type];
  if (name === undefined) throw unsupported(path, `compression type ${type} is unknown`);
  return name;
}

/** @param size of the disk, as the header has it: what is beyond its last whole sector wants an L1 entry, too */
function checkTables(header: Header, size: number, bad: (what: string) => Qcow2fsError): void {
  const { clusterSize } = header;
  if (hasFeature(header, Incompatible.extendedL2) && header.clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS) {
    throw bad(`extended L2 entries need clusters of at least 16 KiB; these have ${clusterSize} bytes`);
  }
  checkTable('L1 table', header.l1TableOffset, header.l1Size * 8, MAX_L1_BYTES, clusterSize, bad);
  const needed = Math.ceil(size / bytesPerL1Entry(header));
  if (header.l1Size < needed) {
    throw bad(`the L1 table has ${header.l1Size} entries; a disk of ${size} bytes needs ${needed}`);
  }
  if (header.refcountTableClusters === 0) throw bad('the header names no refcount table');
  const refcountTableBytes = header.refcountTableClusters * clusterSize;
  const maxRefcountTableBytes = Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSize);
  checkTable(
    'refcount table',
    header.refcountTableOffset,
    refcountTableBytes,
    maxRefcountTableBytes,
    clusterSize,
    bad,
  );
  if (header.snapshotCount > MAX_SNAPSHOTS) {
    throw bad(`the header names ${header.snapshotCount} snapshots; ${MAX_SNAPSHOTS} are allowed`);
  }
  if (header.snapshotCount > 0) {
    checkTable('snapshot table', header.snapshotsOffset, 0, 0, clusterSize, bad);
  }
  if (header.backingFileOffset !== 0) {
    const end = header.backingFileOffset + header.backingFileSize;
    if (header.backingFileSize > Math.min(MAX_BACKING_NAME_BYTES, clusterSize)) {
      throw bad(`the backing file name takes ${header.backingFileSize} bytes; 1023 are allowed`);
    }
    if (end > clusterSize) throw bad(`the backing file name ends at ${hex(end)}, outside the first cluster`);
  }
}
