/** What an image is, as plain data: the schema of `qcow2fs info --json`. */
import { FileStorage, openReadOnly } from '../host/file-storage.js';
import { describeCipher } from '../luks/cipher.js';
import type { Allocation } from './allocation.js';
import { type Bitmap, readBitmaps } from './format/bitmaps.js';
import { featureNames } from './format/features.js';
import type { Header } from './format/header.js';
import { diskTable, type Image, readImage, readUpTo } from './image.js';
import { qcow2Parameters } from './parameters.js';
import { Qcow2Disk } from './qcow2-disk.js';
import { readLuksHeader } from './unlock.js';

/** Runs that are looked at; what a more fragmented image holds stays unknown. */
const MAX_RUNS = 2_000_000;
const L2_CACHE_BYTES = 1024 * 1024;

/** All sizes are bytes; null where the image has no such thing. */
export interface ImageInfo {
  readonly image: string;
  readonly version: number;
  readonly virtualSize: number;
  readonly fileSize: number;
  readonly diskUsage: number;
  readonly clusterSize: number;
  readonly compressionType: string;
  readonly refcountBits: number;
  readonly header: {
    readonly headerLength: number;
    readonly l1Size: number;
    readonly l1TableOffset: number;
    readonly refcountTableOffset: number;
    readonly refcountTableClusters: number;
    readonly unknownExtensions: readonly number[];
  };
  readonly features: {
    readonly incompatible: readonly string[];
    readonly compatible: readonly string[];
    readonly autoclear: readonly string[];
  };
  readonly encryption: { readonly method: 'aes' | 'luks'; readonly luks: LuksInfo | null } | null;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly dataFile: string | null;
  readonly snapshots: readonly {
    readonly id: string;
    readonly name: string;
    /** ISO 8601. */
    readonly date: string;
    readonly diskSize: number;
    readonly vmStateSize: number;
  }[];
  readonly bitmaps: readonly Pick<Bitmap, 'name' | 'granularity' | 'inUse' | 'auto'>[];
  /** Guest bytes by how this image alone stores them; null when it is too fragmented to tell. */
  readonly allocation: Allocation | null;
}

export interface LuksInfo {
  readonly version: number;
  readonly cipher: string;
  readonly keyBits: number;
  readonly mode: string;
  readonly ivGenerator: string | null;
  readonly ivHash: string | null;
  readonly hash: string;
  readonly uuid: string;
  readonly digestIterations: number;
  readonly keySlots: readonly {
    readonly slot: number;
    readonly active: boolean;
    readonly iterations: number;
    readonly stripes: number;
  }[];
}

/** @throws Qcow2fsError `format`, `unsupported` or `host-io` */
export function readInfo(path: string): ImageInfo {
  const storage = new FileStorage(openReadOnly(path));
  try {
    return describe(readImage(storage));
  } finally {
    storage.close();
  }
}

function describe(image: Image): ImageInfo {
  const { header, extensions, snapshots, storage } = image;
  const { incompatibleFeatures, compatibleFeatures, autoclearFeatures } = header;
  const named = extensions.featureNames;
  const read = (offset: number, length: number): Buffer => readUpTo(storage, offset, length);
  return {
    image: storage.path,
    version: header.version,
    virtualSize: header.size,
    fileSize: storage.size(),
    diskUsage: storage.allocatedBytes(),
    clusterSize: header.clusterSize,
    compressionType: header.compressionType,
    refcountBits: header.refcountBits,
    header: {
      headerLength: header.headerLength,
      l1Size: header.l1Size,
      l1TableOffset: header.l1TableOffset,
      refcountTableOffset: header.refcountTableOffset,
      refcountTableClusters: header.refcountTableClusters,
      unknownExtensions: extensions.unknown,
    },
    features: {
      incompatible: featureNames('incompatible', incompatibleFeatures, named),
      compatible: featureNames('compatible', compatibleFeatures, named),
      autoclear: featureNames('autoclear', autoclearFeatures, named),
    },
    encryption: describeEncryption(header, image),
    backingFile: extensions.backingFile ?? null,
    backingFormat: extensions.backingFormat ?? null,
    dataFile: extensions.dataFile ?? null,
    snapshots: snapshots.map(({ id, name, date, diskSize, vmStateSize }) => ({
      id,
      name,
      date: new Date(date).toISOString(),
      diskSize,
      vmStateSize,
    })),
    bitmaps: (extensions.bitmaps ? readBitmaps(extensions.bitmaps, read, storage.path) : []).map(
      ({ name, granularity, inUse, auto }) => ({ name, granularity, inUse, auto }),
    ),
    allocation: allocationOf(image),
  };
}

function describeEncryption({ cryptMethod }: Header, image: Image): ImageInfo['encryption'] {
  if (cryptMethod === 'none') return null;
  if (cryptMethod === 'aes') return { method: 'aes', luks: null };
  const header = readLuksHeader(image);
  const { mode, ivGenerator, ivHash } = describeCipher(header);
  const luks: LuksInfo = {
    version: header.version,
    cipher: header.cipherName,
    keyBits: header.keyBytes * 8,
    mode,
    ivGenerator: ivGenerator ?? null,
    ivHash: ivHash ?? null,
    hash: header.hashSpec,
    uuid: header.uuid,
    digestIterations: header.masterKeyDigestIterations,
    keySlots: header.keySlots.map(({ active, iterations, stripes }, slot) => ({
      slot,
      active,
      iterations,
      stripes,
    })),
  };
  return { method: 'luks', luks };
}

/** The mapping alone: no data is read, so neither a key nor the named files are needed. */
function allocationOf(image: Image): Allocation | null {
  const { storage } = image;
  const table = diskTable(image, undefined);
  const parameters = qcow2Parameters(image, table, {
    share: { l2CacheBytes: L2_CACHE_BYTES, clusters: new Map(), depth: 0 },
    access: 'reading',
  });
  const disk = new Qcow2Disk(parameters, storage, undefined, undefined);
  return disk.allocation(MAX_RUNS) ?? null;
}
