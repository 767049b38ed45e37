/**
 * Where the refcount blocks of an image shall lie so that each referenced cluster has a refcount: those that are
 * there stay, missing ones get clusters that nothing refers to, and so does a table that must grow.
 */
import { Qcow2fsError } from '../../errors.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import { TWO_32 } from '../format/units.js';
import type { Image } from '../image.js';
import type { ReferenceCounts } from './reference-counts.js';
import { forEachEntry } from './table-reader.js';

export interface RefcountPlan {
  /** Clusters whose refcounts one block holds. */
  readonly clustersPerBlock: number;
  /** Host offsets by index in the refcount table. */
  readonly blocks: ReadonlyMap<number, number>;
  /** The indexes of blocks that are yet to be written. */
  readonly added: ReadonlySet<number>;
  readonly tableOffset: number;
  readonly tableClusters: number;
  /** The table takes new clusters, yet to be written. */
  readonly moved: boolean;
}

/**
 * @param counts learns of the clusters that the plan takes and gives up
 * @throws Qcow2fsError `unsupported` when the refcounts need a table larger than is allowed
 */
export function planRefcounts(image: Image, counts: ReferenceCounts): RefcountPlan {
  const { header, storage } = image;
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header;
  const clustersPerBlock = (clusterSize * 8) / header.refcountBits;
  const entriesPerCluster = clusterSize / 8;
  const blocks = new Map<number, number>();
  const added = new Set<number>();
  forEachEntry(storage, refcountTableOffset, refcountTableClusters * entriesPerCluster, (index, high, low) =>
    blocks.set(index, high * TWO_32 + low),
  );

  let next = counts.end;
  let lastIndex = -1;
  /** Sees to it that block `index` exists, and the blocks that hold the refcounts of what that takes. */
  const ensure = (index: number): void => {
    for (let wanted = index; ; ) {
      lastIndex = Math.max(lastIndex, wanted);
      if (blocks.has(wanted)) return;
      const cluster = next++;
      counts.add(cluster, 1, 'refcount block');
      blocks.set(wanted, cluster * clusterSize);
      added.add(wanted);
      wanted = Math.floor(cluster / clustersPerBlock);
    }
  };
  for (const index of [...counts.referencedRuns(clustersPerBlock)].sort((a, b) => a - b)) ensure(index);

  const plan = { clustersPerBlock, blocks, added };
  if (lastIndex < refcountTableClusters * entriesPerCluster) {
    return { ...plan, tableOffset: refcountTableOffset, tableClusters: refcountTableClusters, moved: false };
  }

  let tableClusters = refcountTableClusters;
  // The table and the blocks for it are themselves counted: at most one block a cluster of the table, and one more.
  while (tableClusters * entriesPerCluster * clustersPerBlock < next + 2 * tableClusters + 2)
    tableClusters *= 2;
  if (tableClusters * clusterSize > Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSize)) {
    throw new Qcow2fsError(
      'unsupported',
      `${storage.path}: the refcounts need a table of more than ${MAX_REFCOUNT_TABLE_BYTES} bytes; copy the image: qemu-img convert`,
    );
  }
  const first = refcountTableOffset / clusterSize;
  for (let cluster = first; cluster < first + refcountTableClusters; cluster++) counts.release(cluster);
  const table = next;
  next += tableClusters;
  for (let cluster = table; cluster < table + tableClusters; cluster++) {
    counts.add(cluster, 1, 'refcount table');
    ensure(Math.floor(cluster / clustersPerBlock));
  }
  return { ...plan, tableOffset: table * clusterSize, tableClusters, moved: true };
}
