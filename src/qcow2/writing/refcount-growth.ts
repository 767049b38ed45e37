/**
 * A larger refcount table, when the old one has no entry for the clusters that come next. The new table lies behind all
 * clusters that are counted, with blocks that count it and themselves; one write of the header puts it in place
 * (QEMU block/qcow2-refcount.c, refcount table growth).
 */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import { writeRefcount } from '../format/refcounts.js';
import type { ImageState } from '../image-state.js';
import type { Allocator } from './allocator.js';
import { writeRefcountTableLocation } from './header-fields.js';
import type { MetadataMap } from './metadata-map.js';
import type { Refcounts } from './refcounts.js';

const ENTRY_BYTES = 8;

export interface GrowthParts {
  readonly image: Storage;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly state: ImageState;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly map: MetadataMap;
  readonly commit: () => void;
  /** Of the image. */
  readonly sync: () => void;
}

/**
 * @param block the first block that the table must have an entry for; beyond its present end
 * @throws Qcow2fsError `no-space` when the format or the device allows no larger table
 */
export function growRefcountTable(parts: GrowthParts, block: number): void {
  const { image, clusterSize, state, refcounts, allocator, map } = parts;
  // What the new table says is what the file has: nothing may be left in memory alone.
  parts.commit();
  const { blocks, tableClusters } = plan(parts, block);
  const start = block * refcounts.perBlock * clusterSize;
  const tableOffset = start + blocks * clusterSize;
  const length = (blocks + tableClusters) * clusterSize;
  refuseTooLarge(parts, tableClusters);
  allocator.use(start, length);
  image.write(countingBlocks(parts, blocks, blocks + tableClusters), 0, blocks * clusterSize, start);
  const table = Buffer.alloc(tableClusters * clusterSize);
  refcounts.table.encode(0, state.tableSize, table);
  for (let i = 0; i < blocks; i++) {
    table.writeBigUInt64BE(BigInt(start + i * clusterSize), (block + i) * ENTRY_BYTES);
  }
  image.write(table, 0, table.length, tableOffset);
  parts.sync();

  const old = { offset: state.tableOffset, bytes: state.tableSize * ENTRY_BYTES };
  writeRefcountTableLocation(image, tableOffset, tableClusters);
  for (let i = 0; i < blocks; i++) refcounts.table.setOffset(block + i, start + i * clusterSize);
  refcounts.table.markClean();
  state.tableOffset = tableOffset;
  state.tableSize = table.length / ENTRY_BYTES;
  map.add(start, length);
  // Freed by a commit, after the sync that makes the header stable.
  allocator.releaseTable(old.offset, old.bytes);
  parts.sync();
}

/** How many blocks count the blocks and the table, and how many clusters the table takes: half as much again. */
function plan(
  { clusterSize, state, refcounts }: GrowthParts,
  block: number,
): {
  blocks: number;
  tableClusters: number;
} {
  const clustersFor = (entries: number): number => Math.ceil((entries * ENTRY_BYTES) / clusterSize);
  const wanted = Math.min(Math.ceil(1.5 * state.tableSize), MAX_REFCOUNT_TABLE_BYTES / ENTRY_BYTES);
  let blocks = 1;
  for (;;) {
    const tableClusters = clustersFor(Math.max(wanted, block + blocks));
    const needed = Math.ceil((blocks + tableClusters) / refcounts.perBlock);
    if (needed <= blocks) return { blocks, tableClusters };
    blocks = needed;
  }
}

function countingBlocks({ clusterSize, refcountBits }: GrowthParts, blocks: number, used: number): Buffer {
  const bytes = Buffer.alloc(blocks * clusterSize);
  for (let cluster = 0; cluster < used; cluster++) writeRefcount(bytes, refcountBits, cluster, 1);
  return bytes;
}

function refuseTooLarge({ image, clusterSize, refcounts }: GrowthParts, tableClusters: number): void {
  const largest = Math.min(MAX_REFCOUNT_TABLE_BYTES, refcounts.table.capacity * ENTRY_BYTES);
  if (tableClusters * clusterSize <= largest) return;
  throw new Qcow2fsError('no-space', `${image.path}: the image is as large as its refcount table allows`);
}
