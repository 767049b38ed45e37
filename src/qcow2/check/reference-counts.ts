/**
 * How often each host cluster is referenced, and by what. Pages of counters are made where something is counted, so
 * a sparse file does not take the memory of its size.
 */
import { Qcow2fsError } from '../../errors.js';

/** What a host cluster is used as. Those of the last two kinds may be used many times, all others once. */
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

/** Indexes into STRUCTURES. */
const CODES = Object.fromEntries(STRUCTURES.map((name, index) => [name, index])) as Record<Structure, number>;
const NOTHING = 0;
const SHAREABLE: ReadonlySet<Structure> = new Set(['L2 table', 'data cluster']);

const PAGE_CLUSTERS = 4096;
/** With 5 bytes a counter: 640 MiB of counters, for 128 Mi clusters. */
const MAX_PAGES = 32768;
interface Page {
  readonly counts: Uint32Array;
  /** Indexes into STRUCTURES. */
  readonly structures: Uint8Array;
  /** Of these references, those as L2 tables; made with the first one. */
  tables: Uint32Array | undefined;
  /** The last pass that visited the cluster; made with the first one. */
  visited: Uint8Array | undefined;
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
  #passNumber = 0;

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
    if (index !== this.#lastIndex) {
      const page = this.#pages.get(index);
      if (page === undefined) return 0;
      this.#lastIndex = index;
      this.#last = page;
    }
    return this.#last!.counts[cluster - index * PAGE_CLUSTERS]!;
  }

  structure(cluster: number): Structure {
    const index = Math.floor(cluster / PAGE_CLUSTERS);
    return STRUCTURES[this.#pages.get(index)?.structures[cluster - index * PAGE_CLUSTERS] ?? 0]!;
  }

  /**
   * Counts `references` more of the cluster as `structure`.
   * @returns the structure that the cluster is already, if that bears no other use
   * @throws Qcow2fsError `unsupported` when the references are spread over more clusters than can be counted
   */
  add(cluster: number, references: number, structure: Structure): Structure | undefined {
    const page = this.#pageOf(cluster);
    const { counts, structures } = page;
    const at = cluster % PAGE_CLUSTERS;
    const code = CODES[structure];
    const present = structures[at]!;
    if (present === NOTHING) structures[at] = code;
    const clashes = present !== NOTHING && (present !== code || !SHAREABLE.has(structure));
    if (structure === 'L2 table' && !clashes) {
      page.tables ??= new Uint32Array(PAGE_CLUSTERS);
      page.tables[at] = Math.min(ReferenceCounts.maxCount, page.tables[at]! + references);
    }
    const count = Math.min(ReferenceCounts.maxCount + 1, counts[at]! + references);
    counts[at] = count;
    if (count > this.#largest) this.#largest = count;
    if (cluster >= this.#end) this.#end = cluster + 1;
    return clashes ? STRUCTURES[present] : undefined;
  }

  /** As `add`, for a data cluster. @returns false when it is referenced already, and not counted */
  addFreshData(cluster: number, references: number): boolean {
    const { counts, structures } = this.#pageOf(cluster);
    const at = cluster % PAGE_CLUSTERS;
    if (structures[at] !== NOTHING || references > ReferenceCounts.maxCount) return false;
    structures[at] = CODES['data cluster'];
    counts[at] = references;
    if (references > this.#largest) this.#largest = references;
    if (cluster >= this.#end) this.#end = cluster + 1;
    return true;
  }

  /** References to an L2 table as such, the first time that it is asked; 0 later, and for other clusters. */
  takeTable(cluster: number): number {
    const tables = this.#pages.get(Math.floor(cluster / PAGE_CLUSTERS))?.tables;
    if (tables === undefined) return 0;
    const at = cluster % PAGE_CLUSTERS;
    const references = tables[at]!;
    tables[at] = 0;
    return references;
  }

  /** Begins a pass over clusters, each of which is to be visited once; there are few passes. */
  beginPass(): void {
    this.#passNumber++;
  }

  /** True the first time that it is asked of a counted cluster in a pass. */
  visit(cluster: number): boolean {
    const page = this.#pageOf(cluster);
    page.visited ??= new Uint8Array(PAGE_CLUSTERS);
    const at = cluster % PAGE_CLUSTERS;
    if (page.visited[at] === this.#passNumber) return false;
    page.visited[at] = this.#passNumber;
    return true;
  }

  /** Corrects the count of a cluster that is counted. */
  set(cluster: number, count: number): void {
    this.#pageOf(cluster).counts[cluster % PAGE_CLUSTERS] = count;
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
      page = {
        counts: new Uint32Array(PAGE_CLUSTERS),
        structures: new Uint8Array(PAGE_CLUSTERS),
        tables: undefined,
        visited: undefined,
      };
      this.#pages.set(index, page);
    }
    this.#lastIndex = index;
    this.#last = page;
    return page;
  }
}
