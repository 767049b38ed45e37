/** How many clusters of an image's file its refcounts call used, without looking at what refers to them. */

import { readPadded } from './check/table-reader.js';
import { TWO_32 } from './format/units.js';
import type { Image } from './image.js';

const ENTRY_BYTES = 8;
const RESERVED_LOW = 0x1ff;
/** Entries of the refcount table that are read at once. */
const PIECE_ENTRIES = 8192;
/** Bytes of refcount blocks that are looked at: an image may name one block a million times. */
const MAX_BLOCK_BYTES = 2 ** 30;

interface UsedClusters {
  /** Clusters of the file that the block counts, or would count. */
  readonly clusters: number;
  readonly used: number;
  /** There is a block; without one they are free. */
  readonly isCounted: boolean;
}

/** Whether the refcounts call a cluster of the file free, or cannot tell. @throws Qcow2fsError `host-io` */
export function hasFreeClusters(image: Image): boolean {
  for (const block of usedByBlock(image)) {
    if (block === 'unknown' || block.used < block.clusters) return true;
  }
  return false;
}

/**
 * Goes through the refcount blocks of the first clusters, and ends with `unknown` at one that lies where none can, or
 * where there are too many.
 * @param clusters that are looked at: those of the file, unless told otherwise
 * @throws Qcow2fsError `host-io`
 */
export function* usedByBlock(
  { header, storage }: Image,
  clusters = Math.ceil(storage.size() / header.clusterSize),
): Generator<UsedClusters | 'unknown'> {
  const { clusterSize, refcountBits, refcountTableOffset, refcountTableClusters } = header;
  const perBlock = (clusterSize * 8) / refcountBits;
  const entries = Math.min(
    Math.ceil(clusters / perBlock),
    (refcountTableClusters * clusterSize) / ENTRY_BYTES,
  );
  const table = Buffer.alloc(Math.min(entries, PIECE_ENTRIES) * ENTRY_BYTES);
  const block = Buffer.alloc(clusterSize);
  for (let index = 0; index < entries; index++) {
    const at = (index % PIECE_ENTRIES) * ENTRY_BYTES;
    if (at === 0) readPadded(storage, table, refcountTableOffset + index * ENTRY_BYTES);
    const offset = blockOffset(table, at);
    const own = Math.min(perBlock, clusters - index * perBlock);
    if (offset === 0) {
      yield { clusters: own, used: 0, isCounted: false };
      continue;
    }
    if (
      offset % clusterSize !== 0 ||
      !Number.isSafeInteger(offset) ||
      index * clusterSize >= MAX_BLOCK_BYTES
    ) {
      yield 'unknown';
      return;
    }
    readPadded(storage, block, offset);
    yield { clusters: own, used: countUsed(block, refcountBits, own), isCounted: true };
  }
  const beyond = clusters - entries * perBlock;
  if (beyond > 0) yield { clusters: beyond, used: 0, isCounted: false };
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
