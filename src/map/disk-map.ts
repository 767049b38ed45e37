/** Walks over a disk and tells its runs, a bit at a time, so that whoever takes them can keep up. */
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { type MapExtent, toMapExtent } from './extents.js';
import type { Splitter } from './host-holes.js';

/**
 * Runs of all layers that are looked at: those of 16 TiB in clusters of 64 KiB, no two of which are alike. A few megabytes
 * of tables that name each other may claim a thousand times as many, which would take days.
 */
const MAX_RUNS = 2 ** 28;
/** Problems that are kept to be told; more are only counted. */
const MAX_PROBLEMS = 10;

export interface Problem {
  readonly depth: number;
  readonly message: string;
}

export class DiskMap {
  /** Where reading fails: the first few, and how many there are. */
  readonly problems: Problem[] = [];
  problemCount = 0;
  readonly #disk: Disk;
  readonly #splitterOf: (depth: number) => Splitter | null;
  readonly #visit: (extent: MapExtent) => void;
  readonly #budget: { steps: number };
  #at = 0;

  /**
   * @param visit is given runs that follow each other and cover the disk; not merged
   * @param maxRuns more are refused
   */
  constructor(
    disk: Disk,
    splitterOf: (depth: number) => Splitter | null,
    visit: (extent: MapExtent) => void,
    maxRuns = MAX_RUNS,
  ) {
    this.#disk = disk;
    this.#splitterOf = splitterOf;
    this.#visit = visit;
    this.#budget = { steps: maxRuns };
  }

  /**
   * @param runs that are told, at most, as the image has them
   * @returns true when the whole disk was told
   * @throws Qcow2fsError `unsupported` when there is more than anybody would read
   */
  advance(runs: number): boolean {
    let left = runs;
    const complete = this.#disk.scan(
      this.#at,
      this.#disk.size - this.#at,
      (extent) => {
        this.#tell(toMapExtent(extent));
        this.#at = extent.offset + extent.length;
        return --left > 0 || this.#at === this.#disk.size;
      },
      this.#budget,
    );
    if (this.#budget.steps > 0 || complete) return complete;
    const what = 'the tables of the disk make more runs than can be shown';
    throw new Qcow2fsError('unsupported', `${what}; are they sound? qcow2fs check`);
  }

  #tell(extent: MapExtent): void {
    if (extent.problem !== undefined) this.#note(extent.depth, extent.problem);
    const splitter = extent.data && extent.offset !== undefined ? this.#splitterOf(extent.depth) : null;
    if (splitter === null) this.#visit(extent);
    else splitter.split(extent, this.#visit);
  }

  #note(depth: number, message: string): void {
    this.problemCount++;
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ depth, message });
  }
}
