/** Header extensions (specification: "Header extensions") and the backing file name that follows them. */
import { Qcow2fsError } from '../../errors.js';
import { struct, textOf } from '../../struct.js';
import type { Header } from './header.js';
import { MAX_BACKING_FORMAT_BYTES, MAX_BACKING_NAME_BYTES } from './limits.js';
import { hex } from './units.js';

export const ExtensionType = {
  end: 0,
  backingFormat: 0xe279_2aca,
  featureNames: 0x6803_f857,
  bitmaps: 0x2385_2875,
  fullDiskEncryption: 0x0537_be77,
  externalDataFile: 0x4441_5441,
} as const;

const extensionHeader = struct('header extension', 'be', 8, { type: [0, 'u32'], length: [4, 'u32'] });
const encryptionPointer = struct('full disk encryption extension', 'be', 16, {
  offset: [0, 'u64'],
  length: [8, 'u64'],
});
const bitmapsExtension = struct('bitmaps extension', 'be', 24, {
  bitmapCount: [0, 'u32'],
  reserved: [4, 'u32'],
  directorySize: [8, 'u64'],
  directoryOffset: [16, 'u64'],
});
const FEATURE_NAME_ENTRY = 48;
const FEATURE_TYPES = ['incompatible', 'compatible', 'autoclear'] as const;

export interface FeatureName {
  readonly type: (typeof FEATURE_TYPES)[number];
  readonly bit: number;
  readonly name: string;
}

export interface Extensions {
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
  /** Where the LUKS header lies in the image file: bytes. */
  readonly encryption: { readonly offset: number; readonly length: number } | undefined;
  readonly bitmaps:
    | {
        readonly count: number;
        readonly reserved: number;
        readonly directoryOffset: number;
        readonly directorySize: number;
      }
    | undefined;
  readonly featureNames: readonly FeatureName[];
  /** Types that this version does not know. */
  readonly unknown: readonly number[];
}

/**
 * @param cluster the first cluster of the image (shorter where the file ends)
 * @throws Qcow2fsError `format` when an extension runs over its room
 */
export function parseExtensions(header: Header, cluster: Buffer, path: string): Extensions {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('format', `${path}: ${what}`);
  const data = new Map<number, Buffer>();
  const unknown: number[] = [];
  const known = new Set<number>(Object.values(ExtensionType));

  const end = header.backingFileOffset || header.clusterSize;
  let at = header.headerLength;
  while (at < end) {
    const start = at + extensionHeader.size;
    if (start > end) throw bad(`the header extension at ${hex(at)} runs past its room`);
    if (start > cluster.length) break;
    const { type, length } = extensionHeader.read(cluster, at);
    // QEMU does not open an image whose end mark has a length beyond the room either.
    if (start + length > Math.min(end, cluster.length)) {
      throw bad(`header extension ${hex(type)} at ${hex(at)} takes ${length} bytes and runs past its room`);
    }
    if (type === ExtensionType.end) break;
    if (known.has(type)) data.set(type, cluster.subarray(start, start + length));
    else unknown.push(type);
    at = start + Math.ceil(length / 8) * 8;
  }

  const text = (type: number): string | undefined => {
    const bytes = data.get(type);
    return bytes && textOf(bytes);
  };
  const limit = (type: number, what: string, allowed: number): void => {
    const bytes = data.get(type)?.length ?? 0;
    if (bytes > allowed) throw bad(`the ${what} takes ${bytes} bytes; ${allowed} are allowed`);
  };
  limit(ExtensionType.externalDataFile, 'data file name', MAX_BACKING_NAME_BYTES);
  limit(ExtensionType.backingFormat, 'backing format', MAX_BACKING_FORMAT_BYTES);
  const encryption = data.get(ExtensionType.fullDiskEncryption);
  const bitmaps = data.get(ExtensionType.bitmaps);
  return {
    backingFile: backingFileName(header, cluster, bad),
    // An empty one declares nothing.
    backingFormat: text(ExtensionType.backingFormat) || undefined,
    dataFile: text(ExtensionType.externalDataFile),
    encryption: encryption && parsePointer(encryption, bad),
    bitmaps: bitmaps && parseBitmaps(bitmaps, bad),
    featureNames: parseFeatureNames(data.get(ExtensionType.featureNames)),
    unknown,
  };
}

export interface EncodedExtension {
  readonly type: number;
  readonly data: Buffer;
}

/** The extensions as they lie behind the header, each padded to 8 bytes, with the mark of the end. */
export function encodeExtensions(extensions: readonly EncodedExtension[]): Buffer {
  const parts = [...extensions, { type: ExtensionType.end, data: Buffer.alloc(0) }].map(({ type, data }) => {
    const bytes = Buffer.alloc(extensionHeader.size + Math.ceil(data.length / 8) * 8);
    extensionHeader.write(bytes, 0, { type, length: data.length });
    data.copy(bytes, extensionHeader.size);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** Data of the full disk encryption extension: where the LUKS header lies in the image file, in bytes. */
export function encodeEncryptionPointer(pointer: NonNullable<Extensions['encryption']>): Buffer {
  const data = Buffer.alloc(encryptionPointer.size);
  encryptionPointer.write(data, 0, pointer);
  return data;
}

/** Data of the feature name table; names are cut after 46 bytes. */
export function encodeFeatureNames(names: readonly FeatureName[]): Buffer {
  const table = Buffer.alloc(names.length * FEATURE_NAME_ENTRY);
  for (const [index, { type, bit, name }] of names.entries()) {
    const at = index * FEATURE_NAME_ENTRY;
    table.writeUInt8(FEATURE_TYPES.indexOf(type), at);
    table.writeUInt8(bit, at + 1);
    table.write(name, at + 2, FEATURE_NAME_ENTRY - 2);
  }
  return table;
}

function backingFileName(
  header: Header,
  cluster: Buffer,
  bad: (what: string) => Qcow2fsError,
): string | undefined {
  const { backingFileOffset: start, backingFileSize: size } = header;
  if (start === 0) return undefined;
  if (start + size > cluster.length) throw bad('the backing file name is cut short; the file is truncated');
  return textOf(cluster.subarray(start, start + size)) || undefined;
}

function parsePointer(data: Buffer, bad: (what: string) => Qcow2fsError): { offset: number; length: number } {
  if (data.length !== encryptionPointer.size) {
    throw bad(`the encryption extension has ${data.length} bytes; 16 are valid`);
  }
  try {
    return encryptionPointer.read(data);
  } catch (error) {
    throw bad(`the encryption extension is out of range: ${(error as Error).message}`);
  }
}

function parseBitmaps(data: Buffer, bad: (what: string) => Qcow2fsError): NonNullable<Extensions['bitmaps']> {
  if (data.length !== bitmapsExtension.size) {
    throw bad(`the bitmaps extension has ${data.length} bytes; 24 are valid`);
  }
  try {
    const { bitmapCount, ...extension } = bitmapsExtension.read(data);
    return { count: bitmapCount, ...extension };
  } catch (error) {
    throw bad(`the bitmaps extension is out of range: ${(error as Error).message}`);
  }
}

function parseFeatureNames(table: Buffer | undefined): FeatureName[] {
  const names: FeatureName[] = [];
  for (let at = 0; table && at + FEATURE_NAME_ENTRY <= table.length; at += FEATURE_NAME_ENTRY) {
    const type = FEATURE_TYPES[table.readUInt8(at)];
    const name = textOf(table.subarray(at + 2, at + FEATURE_NAME_ENTRY));
    if (type !== undefined && name !== '') names.push({ type, bit: table.readUInt8(at + 1), name });
  }
  return names;
}
