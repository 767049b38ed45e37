/** What the refcounts say of an image as a whole, beside what its file takes on its host. */
import { hasFeature, Incompatible } from './format/header.js';
import type { Image } from './image.js';
import { usedByBlock } from './used-clusters.js';

const ENTRY_BYTES = 8;
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
  const { storage, header } = image;
  const hostClusters = Math.floor(storage.allocatedBytes() / header.clusterSize);
  const threshold = Math.max(Math.floor((hostClusters * 10) / 9), hostClusters + 2);
  if (Math.ceil(storage.size() / header.clusterSize) < threshold) return false;
  let used = 0;
  for (const block of usedByBlock(image)) {
    // QEMU gives up at a damaged entry, too.
    if (block === 'unknown') return false;
    used += block.used;
    if (used >= threshold) return true;
  }
  return false;
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
  let used = 0;
  let blocks = 0;
  for (const block of usedByBlock(image, Number.POSITIVE_INFINITY)) {
    if (block === 'unknown') return false;
    used += block.used;
    blocks += Number(block.isCounted);
    if (blocks > MAX_FRESH_BLOCKS || used > fixed + blocks) return false;
  }
  return Math.ceil(storage.size() / clusterSize) <= fixed + blocks;
}
