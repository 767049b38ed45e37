/**
 * Where the refcount blocks of an image shall lie so that each referenced cluster has a refcount: sound ones stay where
 * they are, all others get clusters that nothing refers to, and so does a table that must grow or that is not sound.
 */
import { Qcow2fsError } from '../../errors.js';
import type { References } from '../check/references.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import type { Image } from '../image.js';

export interface RefcountPlan {
  /** Clusters whose refcounts one block holds. */
  readonly clustersPerBlock: number;
  /** Host offsets by index in the refcount table. */
  readonly blocks: ReadonlyMap<number, number>;
  /** The indexes of blocks that are yet to be written. */
  readonly added: ReadonlySet<number>;
  readonly tableOffset: number;
  readonly tableClusters: number;
  /** The table takes new clusters, yet to be written; those of the old one are counted until the header names it. */
  readonly moved: boolean;
  /** Entries of the table change. */
  readonly changed: boolean;
}

/**
 * @param references whose counts learn of the clusters that the plan takes
 * @throws Qcow2fsError `unsupported` when the refcounts need a table larger than is allowed
 */
export function planRefcounts(image: Image, { counts, refcounts, outside }: References): RefcountPlan {
  const { header, storage } = image;
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header;
  const clustersPerBlock = (clusterSize * 8) / header.refcountBits;
  const entriesPerCluster = clusterSize / 8;
  const blocks = new Map(refcounts.blocks);
  const added = new Set<number>();

  let next = counts.end;
  let covered = next;
  let lastIndex = -1;
  /** A cluster for a new structure. What the file grows over on the way there is counted, if something refers to it. */
  const take = (): number => {
    for (;;) {
      const references = outside.get(next);
      if (references === undefined) return next++;
      counts.add(next++, references, 'data cluster');
    }
  };
  const takeRun = (length: number): number => {
    for (let first = take(); ; first = take()) {
      while (next < first + length && !outside.has(next)) next++;
      if (next === first + length) return first;
    }
  };
  /** Sees to it that block `index` exists, and the blocks that hold the refcounts of what that takes. */
  const ensure = (index: number): void => {
    for (let wanted = index; ; ) {
      lastIndex = Math.max(lastIndex, wanted);
      if (blocks.has(wanted)) return;
      const cluster = take();
      counts.add(cluster, 1, 'refcount block');
      blocks.set(wanted, cluster * clusterSize);
      added.add(wanted);
      wanted = Math.floor(cluster / clustersPerBlock);
    }
  };
  /** Sees to the refcounts of what the file grows over. */
  const cover = (): void => {
    for (; covered < next; covered++) ensure(Math.floor(covered / clustersPerBlock));
  };
  for (const index of [...counts.referencedRuns(clustersPerBlock)].sort((a, b) => a - b)) ensure(index);
  cover();

  const plan = { clustersPerBlock, blocks, added };
  const { isTableSound, broken } = refcounts;
  if (isTableSound && lastIndex < refcountTableClusters * entriesPerCluster) {
    const changed = added.size > 0 || broken > 0;
    refuseBeyondDevice(image, added.size > 0 ? next : 0);
    return {
      ...plan,
      tableOffset: refcountTableOffset,
      tableClusters: refcountTableClusters,
      moved: false,
      changed,
    };
  }

  let tableClusters = refcountTableClusters;
  // The table and the blocks for it are themselves counted: at most one block a cluster of the table, and one more.
  while (tableClusters * entriesPerCluster * clustersPerBlock < next + outside.size + 2 * tableClusters + 2)
    tableClusters *= 2;
  if (tableClusters * clusterSize > Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterSize)) {
    throw new Qcow2fsError(
      'unsupported',
      `${storage.path}: the refcounts need a table of more than ${MAX_REFCOUNT_TABLE_BYTES} bytes; copy the image: qemu-img convert`,
    );
  }
  const table = takeRun(tableClusters);
  for (let cluster = table; cluster < table + tableClusters; cluster++) {
    counts.add(cluster, 1, 'refcount table');
  }
  cover();
  refuseBeyondDevice(image, next);
  return { ...plan, tableOffset: table * clusterSize, tableClusters, moved: true, changed: true };
}

/** Before anything is written. */
function refuseBeyondDevice({ storage, header }: Image, clusters: number): void {
  if (storage.extensible || clusters * header.clusterSize <= storage.size()) return;
  throw new Qcow2fsError(
    'no-space',
    `${storage.path}: there is no room behind the last cluster for new refcounts; copy the image to a larger device`,
  );
}
