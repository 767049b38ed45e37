/** The refcounts that the image has, and where they differ from what was counted. */

import type { Progress } from '../../progress.js';
import { createTrace } from '../../trace.js';
import { maxRefcount, readRefcount } from '../format/refcounts.js';
import { hex } from '../format/units.js';
import type { Image } from '../image.js';
import type { FindingKind, Place, Report } from './finding.js';
import { advance } from './reference-scan.js';
import type { References } from './references.js';
import { readPadded } from './table-reader.js';

const debug = createTrace('check');

export const PHASE_REFCOUNTS = 2;
/** Blocks that are kept: those of 1 TiB at 64 KiB a cluster and 16 bits a count. */
const CACHE_BYTES = 32 * 1024 * 1024;

/** Reads refcounts at random, from sound blocks; others count as zeros. */
export class StoredRefcounts {
  readonly clustersPerBlock: number;
  readonly #image: Image;
  readonly #blocks: ReadonlyMap<number, number>;
  readonly #cache = new Map<number, Buffer>();
  readonly #capacity: number;
  #lastIndex = -1;
  #last: Buffer | undefined;

  constructor(image: Image, { refcounts }: References) {
    const { clusterSize, refcountBits } = image.header;
    this.clustersPerBlock = (clusterSize * 8) / refcountBits;
    this.#image = image;
    this.#blocks = refcounts.blocks;
    this.#capacity = Math.max(1, Math.floor(CACHE_BYTES / clusterSize));
  }

  get(cluster: number): number {
    const index = Math.floor(cluster / this.clustersPerBlock);
    const block = this.block(index);
    if (block === undefined) return 0;
    return readRefcount(block, this.#image.header.refcountBits, cluster - index * this.clustersPerBlock);
  }

  /** The block of that index in the refcount table; undefined where there is none. */
  block(index: number): Buffer | undefined {
    if (index === this.#lastIndex) return this.#last;
    const offset = this.#blocks.get(index);
    this.#lastIndex = index;
    this.#last = offset === undefined ? undefined : this.#load(index, offset);
    return this.#last;
  }

  /** The file has no data for the block: all its refcounts are 0. */
  isHole(index: number): boolean {
    const offset = this.#blocks.get(index);
    const { storage, header } = this.#image;
    return offset !== undefined && storage.nextData(offset) >= offset + header.clusterSize;
  }

  #load(index: number, offset: number): Buffer {
    let block = this.#cache.get(index);
    this.#cache.delete(index);
    if (block === undefined) {
      // The one that was used least recently makes room.
      const [oldest] = this.#cache.keys();
      if (this.#cache.size === this.#capacity) {
        block = this.#cache.get(oldest!)!;
        this.#cache.delete(oldest!);
      } else block = Buffer.alloc(this.#image.header.clusterSize);
      readPadded(this.#image.storage, block, offset);
    }
    this.#cache.set(index, block);
    return block;
  }
}

/** Reports each run of clusters whose refcount is not what was counted. */
export function compareRefcounts(
  image: Image,
  references: References,
  stored: StoredRefcounts,
  report: Report,
  progress?: Progress,
): void {
  const { counts, refcounts } = references;
  const { clusterSize, refcountBits } = image.header;
  const { clustersPerBlock } = stored;
  // What is counted beyond the end of the file takes no space.
  const fileClusters = Math.ceil(image.storage.size() / clusterSize);
  const referenced = new Set(counts.referencedRuns(clustersPerBlock));
  const indexes = new Set([...refcounts.blocks.keys(), ...referenced]);
  const runs = new MismatchRuns(clusterSize, maxRefcount(refcountBits), report);
  progress?.begin(PHASE_REFCOUNTS, indexes.size * clustersPerBlock);
  debug('%s: comparing %d refcount blocks', image.storage.path, indexes.size);
  for (const index of [...indexes].sort((a, b) => a - b)) {
    advance(progress, clustersPerBlock);
    const first = index * clustersPerBlock;
    const end = Math.min(first + clustersPerBlock, fileClusters);
    if (stored.isHole(index) && !referenced.has(index)) continue;
    const block = stored.block(index);
    for (let cluster = first; cluster < end; cluster++) {
      const has = block === undefined ? 0 : readRefcount(block, refcountBits, cluster - first);
      const used = counts.count(cluster);
      if (has !== used) runs.add(cluster, has, used);
    }
  }
  runs.end();
}

/** Neighbours that are wrong in the same way make one finding. */
class MismatchRuns {
  readonly #clusterSize: number;
  readonly #max: number;
  readonly #report: Report;
  #first = 0;
  #count = 0;
  #has = 0;
  #used = 0;

  /** @param max the largest refcount that can be told */
  constructor(clusterSize: number, max: number, report: Report) {
    this.#clusterSize = clusterSize;
    this.#max = max;
    this.#report = report;
  }

  add(cluster: number, has: number, used: number): void {
    if (
      this.#count > 0 &&
      cluster === this.#first + this.#count &&
      has === this.#has &&
      used === this.#used
    ) {
      this.#count++;
      return;
    }
    this.end();
    this.#first = cluster;
    this.#count = 1;
    this.#has = has;
    this.#used = used;
  }

  end(): void {
    if (this.#count === 0) return;
    const offset = this.#first * this.#clusterSize;
    const clusters = this.#count === 1 ? 'a cluster' : `${this.#count} clusters`;
    const bytes = `${hex(offset)} to ${hex(offset + this.#count * this.#clusterSize - 1)}`;
    const place: Place = { name: 'refcounts', offset };
    const what = `${clusters} (${bytes}): refcount ${this.#has}, but ${times(this.#used)}`;
    this.#report(this.#kind(), place, what, { count: this.#count });
    this.#count = 0;
  }

  #kind(): FindingKind {
    if (this.#used > this.#max) return 'refcount-overflow';
    return this.#has > this.#used ? 'leak' : 'refcount-too-low';
  }
}

function times(used: number): string {
  return used === 0 ? 'not used' : used === 1 ? 'used once' : `used ${used} times`;
}
