/** Counts references one by one, and refuses those that make no sense. */
import { Qcow2fsError } from '../../errors.js';
import { hex } from '../format/units.js';
import { type Image, readUpTo } from '../image.js';
import { ReferenceCounts, type Structure } from './reference-counts.js';
import { forEachEntry } from './table-reader.js';

/**
 * Table entries that are visited at most: 16 TiB of guest data in clusters of 64 KiB. A crafted image must not take
 * hours.
 */
const MAX_ENTRIES = 2 ** 28;

/** Something that no sound image has. */
export interface Problem {
  /** The structure that holds the bad pointer, with its host offset, and the entry where it is a table. */
  readonly where: string;
  readonly what: string;
}

/** Who refers to something: made once for a table, for entries are many. */
export interface Referrer {
  readonly name: string;
  /** Host offset. */
  readonly offset: number;
}

export class ReferenceScan {
  readonly counts: ReferenceCounts;
  readonly #image: Image;
  readonly #onProblem: (problem: Problem) => void;
  readonly #fileSize: number;
  readonly #clusterSize: number;
  #visited = 0;

  constructor(image: Image, onProblem: (problem: Problem) => void) {
    this.counts = new ReferenceCounts(image.storage.path);
    this.#image = image;
    this.#onProblem = onProblem;
    this.#fileSize = image.storage.size();
    this.#clusterSize = image.header.clusterSize;
  }

  /**
   * Counts a structure, if it starts with a cluster and is in the file and nobody else's.
   * @param length bytes
   * @param entry of the referring table
   * @returns whether all of it was counted
   */
  refer(structure: Structure, offset: number, length: number, referrer: Referrer, entry?: number): boolean {
    if (length !== 0 && offset % this.#clusterSize !== 0) {
      this.problem(referrer, entry, `the ${structure} at ${hex(offset)} starts inside a cluster`);
      return false;
    }
    return this.referRange(structure, offset, length, 1, referrer, entry);
  }

  /** Counts `references` more of each cluster that the range touches. */
  referRange(
    structure: Structure,
    offset: number,
    length: number,
    references: number,
    referrer: Referrer,
    entry: number | undefined,
  ): boolean {
    if (length === 0) return true;
    // The last cluster need not be there to its end.
    if (offset + length - this.#fileSize >= this.#clusterSize) {
      this.problem(referrer, entry, `the ${structure} at ${hex(offset)} lies outside the file`);
      return false;
    }
    const end = Math.ceil((offset + length) / this.#clusterSize);
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < end; cluster++) {
      const present = this.counts.add(cluster, references, structure);
      if (present === undefined) continue;
      const where = hex(cluster * this.#clusterSize);
      this.problem(referrer, entry, `the ${structure} at ${hex(offset)} overlaps the ${present} at ${where}`);
      return false;
    }
    return true;
  }

  problem(referrer: Referrer, entry: number | undefined, what: string): void {
    const place = `${referrer.name} at ${hex(referrer.offset)}`;
    this.#onProblem({ where: entry === undefined ? place : `${place}, entry ${entry}`, what });
  }

  /** Visits the entries of a table that are not 0. */
  forEachEntry(
    table: Referrer,
    entries: number,
    visit: (index: number, high: number, low: number) => void,
  ): void {
    this.charge(entries);
    forEachEntry(this.#image.storage, table.offset, entries, visit);
  }

  /** Counts work. @throws Qcow2fsError `unsupported` when the image makes too much of it */
  charge(entries: number): void {
    this.#visited += entries;
    if (this.#visited > MAX_ENTRIES) {
      throw new Qcow2fsError(
        'unsupported',
        `${this.#image.storage.path}: the tables have more than ${MAX_ENTRIES} entries, too many to count here; use qemu-img check`,
      );
    }
  }

  readonly read = (offset: number, length: number): Buffer => readUpTo(this.#image.storage, offset, length);
}
