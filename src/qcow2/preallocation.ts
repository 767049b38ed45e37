/** What the refcounts say of an image as a whole: how many clusters are in use. */

import { readPadded } from './check/table-reader.js';
import { hasFeature, Incompatible } from './format/header.js';
import { TWO_32 } from './format/units.js';
import type { Image } from './image.js';

const ENTRY_BYTES = 8;
const RESERVED_LOW = 0x1ff;
/** Entries of the refcount table that are read at once. */
const PIECE_ENTRIES = 8192;
/** Bytes of refcount blocks that are looked at: an image may name one block a million times. */
const MAX_BLOCK_BYTES = 2 ** 30;
/** Refcount blocks of an image to which nothing was ever written: those of its own metadata. */
const MAX_FRESH_BLOCKS = 16;

/**
 * Whether an image's clusters were set aside without being written (`preallocation=metadata`). Then the host file tells
 * which of them hold anything: it has holes where nothing was written yet. As QEMU tells it (block/qcow2-refcount.c,
 * `qcow2_detect_metadata_preallocation`): the clusters that are in use are clearly more than what the file takes on its
 * host.
 * @throws Qcow2fsError `host-io`
 */
export function isMetadataPreallocated(image: Image): boolean {
  const { header, storage } = image;
  const { clusterSize } = header;
  const hostClusters = Math.floor(storage.allocatedBytes() / clusterSize);
  const threshold = Math.max(Math.floor((hostClusters * 10) / 9), hostClusters + 2);
  const clusters = Math.ceil(storage.size() / clusterSize);
  if (clusters < threshold) return false;
  const used = countUsedClusters(image, clusters, threshold);
  return used !== undefined && used.clusters >= threshold;
}

/**
 * Whether nothing was ever written to the disk: the file and its refcounts have room for the header, the L1 table and
 * the refcounts themselves, and for nothing else.
 * @throws Qcow2fsError `host-io`
 */
export function isNeverWritten(image: Image): boolean {
  const { header, storage } = image;
  const { clusterSize, refcountTableClusters, l1Size } = header;
  if (hasFeature(header, Incompatible.dirty)) return false;
  const fixed = 1 + refcountTableClusters + Math.ceil((l1Size * ENTRY_BYTES) / clusterSize);
  const used = countUsedClusters(image, Number.POSITIVE_INFINITY, fixed + MAX_FRESH_BLOCKS + 1);
  if (used === undefined || used.blocks > MAX_FRESH_BLOCKS) return false;
  const inFile = Math.ceil(storage.size() / clusterSize);
  return Math.max(inFile, used.clusters) <= fixed + used.blocks;
}

/**
 * @param within the first host clusters alone
 * @param enough ends the count
 * @returns undefined where the refcounts are damaged, or too many to count
 */
function countUsedClusters(
  { header, storage }: Image,
  within: number,
  enough: number,
): { readonly clusters: number; readonly blocks: number } | undefined {
  const { clusterSize, refcountBits, refcountTableOffset, refcountTableClusters } = header;
  const perBlock = (clusterSize * 8) / refcountBits;
  const entries = Math.min(Math.ceil(within / perBlock), (refcountTableClusters * clusterSize) / ENTRY_BYTES);
  const table = Buffer.alloc(Math.min(entries, PIECE_ENTRIES) * ENTRY_BYTES);
  const block = Buffer.alloc(clusterSize);
  let clusters = 0;
  let blocks = 0;
  for (let index = 0; index < entries && clusters < enough; index++) {
    const at = (index % PIECE_ENTRIES) * ENTRY_BYTES;
    if (at === 0) readPadded(storage, table, refcountTableOffset + index * ENTRY_BYTES);
    const offset = blockOffset(table, at);
    if (offset === 0) continue;
    // QEMU gives up at a damaged entry, too.
    if (offset % clusterSize !== 0 || !Number.isSafeInteger(offset)) return undefined;
    if (++blocks * clusterSize > MAX_BLOCK_BYTES) return undefined;
    readPadded(storage, block, offset);
    clusters += countUsed(block, refcountBits, Math.min(perBlock, within - index * perBlock));
  }
  return { clusters, blocks };
}

function blockOffset(table: Buffer, at: number): number {
  const low = table.readUInt32BE(at + 4);
  return table.readUInt32BE(at) * TWO_32 + low - (low % (RESERVED_LOW + 1));
}

/** How many of the first `count` reference counts are not 0. The order of their bytes does not matter for that. */
function countUsed(block: Buffer, refcountBits: number, count: number): number {
  switch (refcountBits) {
    case 8:
      return countNonZero(block, count, 1);
    case 16:
      return countNonZero(new Uint16Array(block.buffer, block.byteOffset, block.length / 2), count, 1);
    case 32:
      return countNonZero(new Uint32Array(block.buffer, block.byteOffset, block.length / 4), count, 1);
    case 64:
      return countNonZero(new Uint32Array(block.buffer, block.byteOffset, block.length / 4), count, 2);
    default:
      return countNarrow(block, refcountBits, count);
  }
}

/** @param wide elements that make up one count */
function countNonZero(elements: Uint8Array | Uint16Array | Uint32Array, count: number, wide: 1 | 2): number {
  let used = 0;
  if (wide === 1) for (let index = 0; index < count; index++) used += elements[index] === 0 ? 0 : 1;
  else for (let at = 0; at < 2 * count; at += 2) used += (elements[at]! | elements[at + 1]!) === 0 ? 0 : 1;
  return used;
}

/** Counts narrower than a byte fill it from its lowest bits. */
function countNarrow(block: Buffer, refcountBits: number, count: number): number {
  const mask = (1 << refcountBits) - 1;
  let used = 0;
  for (let index = 0; index < count; index++) {
    const bit = index * refcountBits;
    used += (block[bit >> 3]! >> (bit & 7)) & mask ? 1 : 0;
  }
  return used;
}
