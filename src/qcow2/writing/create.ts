/**
 * Makes an empty overlay: an image that holds nothing yet and shows its backing file.
 *
 *   CLUSTER  CONTENT
 *         0  header, extensions, backing file name
 *         1  refcount table, one entry
 *         2  the refcount block
 *         3  L1 table, all zero; absent for a disk of no bytes
 *     after  LUKS header, for an overlay of an encrypted image
 */
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../../errors.js';
import fs from '../../fs.js';
import { encodeName } from '../../names.js';
import type { Storage } from '../../storage.js';
import {
  type EncodedExtension,
  ExtensionType,
  encodeEncryptionPointer,
  encodeExtensions,
  encodeFeatureNames,
} from '../format/extensions.js';
import { specifiedFeatures } from '../format/features.js';
import { bytesPerL1Entry, encodeHeader, HEADER_BYTES, type Header } from '../format/header.js';
import { MAX_BACKING_NAME_BYTES, MAX_L1_BYTES } from '../format/limits.js';
import { writeRefcount } from '../format/refcounts.js';

const REFCOUNT_TABLE_CLUSTER = 1;
const REFCOUNT_BLOCK_CLUSTER = 2;
const L1_CLUSTER = 3;
const REFCOUNT_BITS = 16;
const MIN_CLUSTER_BITS = 16;

export interface OverlaySpec {
  /** Bytes of the guest disk, whole sectors. */
  readonly size: number;
  /** As it goes into the header: see `backingNameFor`. */
  readonly backingFile: string;
  readonly backingFormat: 'qcow2' | 'raw';
  /** A whole LUKS header with its key material, for an overlay that is encrypted. */
  readonly luksHeader: Buffer | undefined;
}

/**
 * Writes the image, its header last, and brings it to stable storage. The caller removes the file after a failure.
 *
 * @param storage an empty file
 * @throws Qcow2fsError `usage` for a name that no header can hold, `host-io`
 */
export function createImage(storage: Storage, spec: OverlaySpec): void {
  if (storage.size() !== 0) throw new Qcow2fsError('usage', `${storage.path}: is not empty; name a new file`);
  const name = backingNameBytes(spec.backingFile, storage.path);
  const header = overlayHeader(spec);
  const { clusterSize } = header;

  const { luksHeader: luks } = spec;
  const luksCluster = L1_CLUSTER + Math.ceil((header.l1Size * 8) / clusterSize);
  const clusters = luksCluster + Math.ceil((luks?.length ?? 0) / clusterSize);

  storage.truncate(clusters * clusterSize);
  const refcountTable = Buffer.alloc(8);
  refcountTable.writeBigUInt64BE(BigInt(REFCOUNT_BLOCK_CLUSTER * clusterSize));
  put(storage, refcountTable, header.refcountTableOffset);
  // One block counts 32768 clusters and more; the largest L1 table and LUKS header have 1536.
  const refcounts = Buffer.alloc((clusters * REFCOUNT_BITS) / 8);
  for (let cluster = 0; cluster < clusters; cluster++) writeRefcount(refcounts, REFCOUNT_BITS, cluster, 1);
  put(storage, refcounts, REFCOUNT_BLOCK_CLUSTER * clusterSize);
  if (luks !== undefined) put(storage, luks, luksCluster * clusterSize);

  const pointer = luks && { offset: luksCluster * clusterSize, length: luks.length };
  const extensions = encodeExtensions(overlayExtensions(spec, pointer));
  const backing = {
    backingFileOffset: header.headerLength + extensions.length,
    backingFileSize: name.length,
  };
  put(storage, Buffer.concat([encodeHeader({ ...header, ...backing }), extensions, name]), 0);
  storage.sync();
}

/**
 * How the header of an overlay names an image: relative where the image lies in the overlay's directory or below it,
 * so that both can move together, else absolute. Links among the directories are resolved; one in the place of the
 * image itself stays.
 *
 * @param overlayPath absolute; the file need not exist, its directory must
 * @param imagePath absolute
 * @throws Qcow2fsError `host-io` when a directory cannot be found
 */
export function backingNameFor(overlayPath: string, imagePath: string): string {
  const image = inRealDirectory(imagePath);
  const name = path.relative(path.dirname(inRealDirectory(overlayPath)), image);
  if (name === '..' || name.startsWith('../')) return image;
  // What stands before a colon in the first part is a protocol (QEMU util/path.c, path_has_protocol).
  return /^[^/]*:/.test(name) ? `./${name}` : name;
}

function inRealDirectory(file: string): string {
  try {
    return path.join(fs.realpathSync(path.dirname(file)), path.basename(file));
  } catch (error) {
    throw new Qcow2fsError('host-io', `${file}: cannot find its directory: ${hostReason(error)}`, {
      cause: error,
    });
  }
}

function backingNameBytes(name: string, overlay: string): Buffer {
  const bytes = encodeName(name);
  if (bytes.length > MAX_BACKING_NAME_BYTES) {
    const what = `the name of its backing file takes ${bytes.length} bytes; ${MAX_BACKING_NAME_BYTES} fit`;
    throw new Qcow2fsError('usage', `${overlay}: ${what}; put the overlay beside the image`);
  }
  return bytes;
}

function overlayHeader(spec: OverlaySpec): Header {
  const header: Header = {
    version: 3,
    clusterBits: MIN_CLUSTER_BITS,
    clusterSize: 2 ** MIN_CLUSTER_BITS,
    size: spec.size,
    backingFileOffset: 0,
    backingFileSize: 0,
    cryptMethod: spec.luksHeader === undefined ? 'none' : 'luks',
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: 0,
    refcountTableClusters: 1,
    refcountBits: REFCOUNT_BITS,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatibleFeatures: 0n,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    headerLength: HEADER_BYTES,
    compressionType: 'zlib',
  };
  // Clusters of 128 KiB map 2^53 bytes, and no size is larger.
  for (let clusterBits = MIN_CLUSTER_BITS; ; clusterBits++) {
    const clusterSize = 2 ** clusterBits;
    const l1Size = Math.ceil(spec.size / bytesPerL1Entry({ ...header, clusterSize }));
    if (l1Size * 8 > MAX_L1_BYTES) continue;
    const l1TableOffset = l1Size === 0 ? 0 : L1_CLUSTER * clusterSize;
    const refcountTableOffset = REFCOUNT_TABLE_CLUSTER * clusterSize;
    return { ...header, clusterBits, clusterSize, l1Size, l1TableOffset, refcountTableOffset };
  }
}

/** In the order in which qemu-img writes them. */
function overlayExtensions(
  spec: OverlaySpec,
  encryption: { readonly offset: number; readonly length: number } | undefined,
): EncodedExtension[] {
  return [
    { type: ExtensionType.backingFormat, data: Buffer.from(spec.backingFormat) },
    ...(encryption === undefined
      ? []
      : [{ type: ExtensionType.fullDiskEncryption, data: encodeEncryptionPointer(encryption) }]),
    { type: ExtensionType.featureNames, data: encodeFeatureNames(specifiedFeatures()) },
  ];
}

function put(storage: Storage, bytes: Buffer, position: number): void {
  storage.write(bytes, 0, bytes.length, position);
}
