/** Counts references one by one, and reports those that make no sense. */
import { Qcow2fsError } from '../../errors.js';
import type { Progress } from '../../progress.js';
import { hex } from '../format/units.js';
import { type Image, readUpTo } from '../image.js';
import type { Place, Report } from './finding.js';
import { ReferenceCounts, type Structure } from './reference-counts.js';
import { forEachEntry } from './table-reader.js';

/**
 * Table entries that are visited at most where somebody waits for a mount: 16 TiB of guest data in clusters of 64 KiB. A
 * crafted image must not take hours.
 */
const MAX_ENTRIES = 2 ** 28;

/**
 * How often the structures that share no cluster may fill the file. They cannot even once; beyond this they are not counted
 * one by one, for 65,536 snapshots may each name the same table of 32 MiB.
 */
const MAX_CLAIM = 4;
/** Clusters that a repair may add to a file. */
const MAX_GROWTH = 2 ** 20;
/** References farther away that are remembered. */
const MAX_FAR = 100_000;

/** Thrown in the middle of work that somebody asked to stop. */
export class Cancelled extends Error {}

/** @throws Cancelled when somebody asked for it */
export function advance(progress: Progress | undefined, amount: number): void {
  if (progress === undefined) return;
  progress.advance(amount);
  if (progress.isCancelled) throw new Cancelled('interrupted');
}

export class ReferenceScan {
  readonly counts: ReferenceCounts;
  readonly report: Report;
  /** References to clusters beyond the end of the file, by cluster: a file that grows must not grow into them. */
  readonly outside = new Map<number, number>();
  readonly #image: Image;
  readonly #progress: Progress | undefined;
  readonly #fileSize: number;
  readonly #clusterSize: number;
  /** Bytes of all structures that share no cluster. */
  #claimed = 0;
  #visited = 0;
  #far = 0;

  constructor(image: Image, report: Report, progress?: Progress) {
    this.counts = new ReferenceCounts(image.storage.path);
    this.report = report;
    this.#image = image;
    this.#progress = progress;
    this.#fileSize = image.storage.size();
    this.#clusterSize = image.header.clusterSize;
  }

  /** The last cluster of a file need not be there to its end. */
  isOutside(offset: number, length: number): boolean {
    return offset + length - this.#fileSize >= this.#clusterSize;
  }

  /** How much of what lies outside is in clusters of the file: bytes. */
  lengthInside(offset: number, length: number): number {
    const end = Math.ceil(this.#fileSize / this.#clusterSize) * this.#clusterSize;
    return Math.max(0, Math.min(length, end - offset));
  }

  /**
   * Counts a structure that nothing else may share a cluster with.
   * @param length bytes
   * @param entry of the table that refers to it
   * @returns whether it lies where it can, alone: its content may be believed
   */
  refer(structure: Structure, offset: number, length: number, owner: Place, entry?: number): boolean {
    if (length === 0) return true;
    const at = { entry: entry ?? null };
    if (this.isOutside(offset, length)) {
      this.report('lost-table', owner, `the ${structure} at ${hex(offset)} lies outside the file`, at);
      return false;
    }
    if (structure !== 'L2 table') this.#claimed += length;
    if (this.#claimed > MAX_CLAIM * this.#fileSize) {
      this.report(
        'metadata-overlap',
        owner,
        `the ${structure} at ${hex(offset)} is one of too many for the file`,
        at,
      );
      return false;
    }
    // What is there keeps its clusters, wherever it begins.
    const clash = this.countRange(structure, offset, length, 1);
    if (offset % this.#clusterSize !== 0) {
      this.report('lost-table', owner, `the ${structure} at ${hex(offset)} starts inside a cluster`, at);
      return false;
    }
    if (clash === undefined) return true;
    this.report('metadata-overlap', owner, `the ${structure} at ${hex(offset)} ${clash}`, at);
    return false;
  }

  /**
   * As `refer`, for a table whose entries are read one by one: what is missing of one that the end of the file cuts off
   * would be taken for entries that name nothing.
   * @returns whether it is the whole truth; what there is of a table that is cut off may be visited all the same
   */
  referTable(
    structure: Structure,
    offset: number,
    length: number,
    owner: Place,
    entry?: number,
  ): 'sound' | 'cut off' | 'lost' {
    if (!this.refer(structure, offset, length, owner, entry)) return 'lost';
    if (length === 0 || offset + length <= this.#fileSize) return 'sound';
    const what = `the ${structure} at ${hex(offset)} is cut off by the end of the file`;
    this.report('lost-table', owner, what, { entry: entry ?? null });
    return 'cut off';
  }

  /**
   * Counts `references` more of each cluster that the range touches.
   * @returns what it overlaps, in words
   */
  countRange(structure: Structure, offset: number, length: number, references: number): string | undefined {
    const first = Math.floor(offset / this.#clusterSize);
    const end = Math.ceil((offset + length) / this.#clusterSize);
    // The first one is paid for with the entry that names it.
    this.#spend(end - first - 1);
    let clash: string | undefined;
    for (let cluster = first; cluster < end; cluster++) {
      const present = this.counts.add(cluster, references, structure);
      if (present === undefined) continue;
      clash ??= `overlaps the ${present} at ${hex(cluster * this.#clusterSize)}`;
    }
    return clash;
  }

  /** Remembers references that lie outside the file: all near its end, and some far ones. */
  noteOutside(offset: number, length: number, references: number): void {
    const first = Math.ceil(this.#fileSize / this.#clusterSize);
    const end = Math.ceil((offset + length) / this.#clusterSize);
    for (let cluster = Math.max(first, Math.floor(offset / this.#clusterSize)); cluster < end; cluster++) {
      if (cluster >= first + MAX_GROWTH && this.#far++ >= MAX_FAR) return;
      this.outside.set(cluster, (this.outside.get(cluster) ?? 0) + references);
    }
  }

  /** Visits the entries of a table that are not 0. */
  forEachEntry(
    table: Place,
    entries: number,
    visit: (index: number, high: number, low: number) => void,
  ): void {
    this.charge(entries);
    forEachEntry(this.#image.storage, table.offset, entries, visit);
  }

  /**
   * Counts work.
   * @throws Qcow2fsError `unsupported` when the image makes too much of it and nobody sees a progress; Cancelled
   */
  charge(entries: number): void {
    advance(this.#progress, entries);
    this.#spend(entries);
  }

  /** As `charge`, for work that no progress shows. */
  #spend(amount: number): void {
    this.#visited += amount;
    if (this.#progress?.isCancelled) throw new Cancelled('interrupted');
    if (this.#visited > MAX_ENTRIES && this.#progress === undefined) {
      throw new Qcow2fsError(
        'unsupported',
        `${this.#image.storage.path}: the tables have more than ${MAX_ENTRIES} entries, too many to count here; first: qcow2fs check --repair all`,
      );
    }
  }

  readonly read = (offset: number, length: number): Buffer => readUpTo(this.#image.storage, offset, length);
}
