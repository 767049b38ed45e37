/** Brings the refcounts in the file to what was counted. */
import { Qcow2fsError } from '../../errors.js';
import { ReferenceCounts } from '../check/reference-counts.js';
import type { References } from '../check/references.js';
import { readPadded } from '../check/table-reader.js';
import { maxRefcount, writeRefcount } from '../format/refcounts.js';
import { TWO_32 } from '../format/units.js';
import type { Image } from '../image.js';
import { writeRefcountTableLocation } from '../writing/header-fields.js';
import { writeChanges } from './changed-sectors.js';
import type { RefcountPlan } from './refcount-plan.js';

/** @throws Qcow2fsError `unsupported` when a cluster has more references than a refcount can tell */
export function refuseOverflow(image: Image, counts: ReferenceCounts): void {
  const { refcountBits } = image.header;
  if (counts.largest <= Math.min(maxRefcount(refcountBits), ReferenceCounts.maxCount)) return;
  throw new Qcow2fsError(
    'unsupported',
    `${image.storage.path}: a cluster has ${counts.largest} references, more than refcounts of ${refcountBits} bits can hold; copy the image: qemu-img convert`,
  );
}

/**
 * Writes refcount blocks where they differ, then the table that points to new ones, and syncs after each. A table that
 * moved is counted until the header names the new one.
 * @param references whose counts lose the old table
 * @throws Qcow2fsError `host-io`
 */
export function writeRefcounts(image: Image, { counts, refcounts }: References, plan: RefcountPlan): void {
  const { storage } = image;
  const changed = writeBlocks(image, counts, plan);
  if (plan.moved) {
    storage.write(
      encodeTable(image, plan),
      0,
      plan.tableClusters * image.header.clusterSize,
      plan.tableOffset,
    );
  }
  if (changed || plan.moved) storage.sync();
  if (plan.moved) {
    writeRefcountTableLocation(storage, plan.tableOffset, plan.tableClusters);
    storage.sync();
    if (refcounts.isTableSound) {
      releaseTable(image, counts);
      writeBlocks(image, counts, { ...plan, added: new Set() });
      storage.sync();
    }
  } else if (plan.changed) {
    const table = encodeTable(image, plan);
    const before = Buffer.alloc(table.length);
    readPadded(storage, before, plan.tableOffset);
    writeChanges(storage, before, table, plan.tableOffset);
    storage.sync();
  }
}

function releaseTable({ header }: Image, counts: ReferenceCounts): void {
  const first = header.refcountTableOffset / header.clusterSize;
  for (let cluster = first; cluster < first + header.refcountTableClusters; cluster++)
    counts.release(cluster);
}

function writeBlocks(image: Image, counts: ReferenceCounts, plan: RefcountPlan): boolean {
  const { storage, header } = image;
  const { clustersPerBlock } = plan;
  const before = Buffer.alloc(header.clusterSize);
  const after = Buffer.alloc(header.clusterSize);
  let changed = false;
  for (const [index, offset] of plan.blocks) {
    const first = index * clustersPerBlock;
    after.fill(0);
    counts.forEach(first, first + clustersPerBlock, (cluster, count) =>
      writeRefcount(after, header.refcountBits, cluster - first, count),
    );
    if (plan.added.has(index)) {
      storage.write(after, 0, after.length, offset);
      changed = true;
    } else {
      readPadded(storage, before, offset);
      if (writeChanges(storage, before, after, offset)) changed = true;
    }
  }
  return changed;
}

function encodeTable(image: Image, plan: RefcountPlan): Buffer {
  const table = Buffer.alloc(plan.tableClusters * image.header.clusterSize);
  for (const [index, offset] of plan.blocks) {
    table.writeUInt32BE(Math.floor(offset / TWO_32), index * 8);
    table.writeUInt32BE(offset % TWO_32, index * 8 + 4);
  }
  return table;
}
