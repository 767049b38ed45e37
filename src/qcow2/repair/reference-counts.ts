/**
 * How often each host cluster is referenced, and by what. Pages of counters are made where something is counted, so
 * a sparse file does not take the memory of its size.
 */
import { Qcow2fsError } from '../../errors.js';

/** What a host cluster is used as. Clusters of the last two kinds may have many references, all others one. */
export const STRUCTURES = [
  'nothing',
  'header',
  'L1 table',
  'snapshot table',
  'snapshot L1 table',
  'refcount table',
  'refcount block',
  'LUKS header',
  'bitmap directory',
  'bitmap table',
  'bitmap data',
  'L2 table',
  'data cluster',
] as const;
export type Structure = (typeof STRUCTURES)[number];

const SHAREABLE: ReadonlySet<Structure> = new Set(['L2 table', 'data cluster']);

const PAGE_CLUSTERS = 4096;
/** With 5 bytes a counter: 640 MiB of counters, for 128 Mi clusters. */
const MAX_PAGES = 32768;
interface Page {
  readonly counts: Uint32Array;
  /** Indexes into STRUCTURES. */
  readonly structures: Uint8Array;
}

export class ReferenceCounts {
  /** The largest count that is exact; the next one stands for all that are larger. */
  static readonly maxCount = 0xffff_fffe;

  readonly #path: string;
  readonly #maxPages: number;
  readonly #pages = new Map<number, Page>();
  /** The page that was last used: references mostly come in order. */
  #lastIndex = -1;
  #last: Page | undefined;
  #end = 0;
  #largest = 0;

  /** @param path names the image in messages */
  constructor(path: string, maxPages = MAX_PAGES) {
    this.#path = path;
    this.#maxPages = maxPages;
  }

  /** No cluster at or after this one has ever been referenced. */
  get end(): number {
    return this.#end;
  }

  /** The largest count that any cluster had. */
  get largest(): number {
    return this.#largest;
  }

  /** References to the cluster; exact up to `maxCount`. */
  count(cluster: number): number {
    const index = Math.floor(cluster / PAGE_CLUSTERS);
    return this.#pages.get(index)?.counts[cluster - index * PAGE_CLUSTERS] ?? 0;
  }

  structure(cluster: number): Structure {
    const index = Math.floor(cluster / PAGE_CLUSTERS);
    return STRUCTURES[this.#pages.get(index)?.structures[cluster - index * PAGE_CLUSTERS] ?? 0]!;
  }

  /**
   * Counts `references` more of the cluster as `structure`.
   * @returns the structure that the cluster already is and that bears no other use; nothing is counted then
   * @throws Qcow2fsError `unsupported` when the references are spread over more clusters than can be counted
   */
  add(cluster: number, references: number, structure: Structure): Structure | undefined {
    const { counts, structures } = this.#pageOf(cluster);
    const at = cluster % PAGE_CLUSTERS;
    const present = STRUCTURES[structures[at]!]!;
    if (present !== 'nothing' && (present !== structure || !SHAREABLE.has(present))) return present;
    if (present === 'nothing') structures[at] = STRUCTURES.indexOf(structure);
    const count = Math.min(ReferenceCounts.maxCount + 1, counts[at]! + references);
    counts[at] = count;
    if (count > this.#largest) this.#largest = count;
    if (cluster >= this.#end) this.#end = cluster + 1;
    return undefined;
  }

  /** Forgets what the cluster was. */
  release(cluster: number): void {
    const { counts, structures } = this.#pageOf(cluster);
    counts[cluster % PAGE_CLUSTERS] = 0;
    structures[cluster % PAGE_CLUSTERS] = 0;
  }

  /** Visits the clusters of `[first, end)` that are referenced, and their counts; a page at a time, in order. */
  forEach(first: number, end: number, visit: (cluster: number, count: number) => void): void {
    const stop = Math.min(end, this.#end);
    for (let at = first; at < stop; ) {
      const index = Math.floor(at / PAGE_CLUSTERS);
      const next = (index + 1) * PAGE_CLUSTERS;
      const counts = this.#pages.get(index)?.counts;
      for (let cluster = at; counts !== undefined && cluster < Math.min(next, stop); cluster++) {
        const count = counts[cluster - index * PAGE_CLUSTERS]!;
        if (count !== 0) visit(cluster, count);
      }
      at = next;
    }
  }

  /** Numbers of the runs of `length` clusters in which something is referenced, each once, in no order. */
  *referencedRuns(length: number): Generator<number> {
    const seen = new Set<number>();
    for (const [index, { counts }] of this.#pages) {
      const first = index * PAGE_CLUSTERS;
      const step = Math.min(length, PAGE_CLUSTERS);
      for (let at = 0; at < PAGE_CLUSTERS; at += step) {
        const run = Math.floor((first + at) / length);
        if (seen.has(run) || counts.subarray(at, at + step).every((count) => count === 0)) continue;
        seen.add(run);
        yield run;
      }
    }
  }

  #pageOf(cluster: number): Page {
    const index = Math.floor(cluster / PAGE_CLUSTERS);
    if (index === this.#lastIndex) return this.#last!;
    let page = this.#pages.get(index);
    if (page === undefined) {
      if (this.#pages.size === this.#maxPages) {
        throw new Qcow2fsError(
          'unsupported',
          `${this.#path}: the references of so large an image cannot be counted here; use qemu-img check`,
        );
      }
      page = { counts: new Uint32Array(PAGE_CLUSTERS), structures: new Uint8Array(PAGE_CLUSTERS) };
      this.#pages.set(index, page);
    }
    this.#lastIndex = index;
    this.#last = page;
    return page;
  }
}
