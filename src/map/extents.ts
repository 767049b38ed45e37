/** The runs of a disk as `qemu-img map` tells them: what lies together and is stored alike is one run. */
import type { Extent } from '../disk.js';

/** Sizes and positions are bytes. */
export interface MapExtent {
  readonly start: number;
  readonly length: number;
  /** The layer that the run comes from: 0 is the image itself. */
  readonly depth: number;
  /** Some layer tells what the run is. */
  readonly present: boolean;
  /** Known to read as zeros. */
  readonly zero: boolean;
  /** Clusters, or a part of the host file, hold the run. */
  readonly data: boolean;
  readonly compressed: boolean;
  readonly shared: boolean;
  readonly problem: string | undefined;
  /** Where the run has its place in the layer's file, in clear. */
  readonly offset: number | undefined;
}

export function toMapExtent(extent: Extent): MapExtent {
  return {
    start: extent.offset,
    length: extent.length,
    depth: extent.depth,
    present: extent.present,
    zero: !extent.data,
    data: extent.data,
    compressed: extent.compressed,
    shared: extent.shared,
    problem: extent.problem,
    offset: extent.problem === undefined ? extent.hostOffset : undefined,
  };
}

/** `like-qemu` says nothing of what is shared, so runs do not end where that changes. */
export type MergeRule = 'all' | 'like-qemu';

/** Merges runs that follow each other, as QEMU does (qemu-img.c, `entry_mergeable`). Holds one run. */
export class ExtentMerger {
  readonly #emit: (extent: MapExtent) => void;
  readonly #heedsShared: boolean;
  #current: MapExtent | undefined;
  #length = 0;

  constructor(rule: MergeRule, emit: (extent: MapExtent) => void) {
    this.#emit = emit;
    this.#heedsShared = rule === 'all';
  }

  /** @param next starts where the run before it ended */
  add(next: MapExtent): void {
    if (this.#current !== undefined && this.#continues(this.#current, next)) {
      this.#length += next.length;
      return;
    }
    this.end();
    this.#current = next;
    this.#length = next.length;
  }

  /** Gives away the last run. */
  end(): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#current = undefined;
    this.#emit(current.length === this.#length ? current : { ...current, length: this.#length });
  }

  #continues(current: MapExtent, next: MapExtent): boolean {
    return (
      current.depth === next.depth &&
      current.data === next.data &&
      current.zero === next.zero &&
      current.present === next.present &&
      current.compressed === next.compressed &&
      (current.shared === next.shared || !this.#heedsShared) &&
      current.problem === next.problem &&
      next.offset === (current.offset === undefined ? undefined : current.offset + this.#length)
    );
  }
}
