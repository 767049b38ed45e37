/**
 * What the disk reads where a change covers a part of a cluster only. It is read before the change takes the lock: the
 * host may take seconds for it, or never answer, and everybody else would wait. Under the lock it counts if the disk
 * still has it at the same place, which is pinned; there the bytes of backing files, of snapshots and of compressed
 * clusters never change.
 */
import type { Disk } from '../disk.js';
import type { Geometry } from './geometry.js';
import { type Mapping, Run, RunKind } from './mapping.js';
import type { MetadataCache } from './metadata.js';
import type { OldContent } from './writing/writer.js';

/** Runs of backing files that are looked at to tell whether they are zeros; if there are more, they count as data. */
const MAX_BACKING_STEPS = 64;

/** How the disk is read. */
export interface RunReader {
  /** Finds and pins the run at `offset`, beside the lock. @returns false when its slice is not cached; nothing is pinned */
  pin(offset: number, length: number, run: Run): boolean;
  /** Fills the cache with the slice, beside the lock. */
  fill(offset: number): void;
  read(run: Run, target: Buffer, at: number, offset: number): void;
}

/** What lies before or behind a change in the same subcluster. */
class Edge {
  /** Guest offset. */
  offset = 0;
  /** Bytes; 0 while nothing is read. */
  length = 0;
  readonly run = new Run();
  bytes = Buffer.alloc(0);
}

export class DiskContent implements OldContent {
  readonly #geometry: Geometry;
  readonly #metadata: MetadataCache;
  readonly #mapping: Mapping;
  readonly #backing: Disk | undefined;
  readonly #runs: RunReader;
  readonly #run = new Run();
  readonly #head = new Edge();
  readonly #tail = new Edge();

  constructor(
    geometry: Geometry,
    metadata: MetadataCache,
    mapping: Mapping,
    backing: Disk | undefined,
    runs: RunReader,
  ) {
    this.#geometry = geometry;
    this.#metadata = metadata;
    this.#mapping = mapping;
    this.#backing = backing;
    this.#runs = runs;
  }

  /**
   * Reads what a change of `[offset, offset + length)` will want. Needs no lock, and must not have the exclusive one;
   * pins what it has read until `release`.
   */
  prefetch(offset: number, length: number): void {
    const { unitSize } = this.#geometry;
    const before = offset % unitSize;
    const end = offset + length;
    const unitEnd = Math.ceil(end / unitSize) * unitSize;
    this.#prefetch(this.#head, offset - before, before);
    this.#prefetch(this.#tail, end, Math.min(unitEnd, this.#metadata.state.diskSize) - end);
  }

  release(): void {
    for (const edge of [this.#head, this.#tail]) {
      if (edge.length === 0) continue;
      edge.length = 0;
      this.#metadata.state.unpin();
    }
  }

  read(target: Buffer, at: number, length: number, offset: number): void {
    const run = this.#run;
    for (let done = 0; done < length; done += run.length) {
      this.#find(offset + done, length - done);
      const edge = this.#edgeOf(run, offset + done);
      if (edge === undefined) this.#runs.read(run, target, at + done, offset + done);
      else edge.bytes.copy(target, at + done, 0, run.length);
    }
  }

  isZero(offset: number, length: number): boolean {
    const run = this.#run;
    for (let done = 0; done < length; done += run.length) {
      this.#find(offset + done, length - done);
      if (run.kind === RunKind.zero) continue;
      if (run.kind !== RunKind.unallocated || !this.#isBackingZero(offset + done, run.length)) return false;
    }
    return true;
  }

  hasBacking(offset: number): boolean {
    return offset < (this.#backing?.size ?? 0);
  }

  #prefetch(edge: Edge, offset: number, length: number): void {
    if (length <= 0) return;
    const { run } = edge;
    while (!this.#runs.pin(offset, length, run)) this.#runs.fill(offset);
    try {
      if (!this.#hasOldContent(run, offset)) return;
      if (edge.bytes.length === 0) edge.bytes = Buffer.alloc(this.#geometry.unitSize);
      this.#runs.read(run, edge.bytes, 0, offset);
      edge.offset = offset;
      edge.length = run.length;
    } finally {
      if (edge.length === 0) this.#metadata.state.unpin();
    }
  }

  #hasOldContent(run: Run, offset: number): boolean {
    if (run.kind === RunKind.data) return !run.owned;
    return run.kind === RunKind.compressed || (run.kind === RunKind.unallocated && this.hasBacking(offset));
  }

  /** @param run as it is under the lock */
  #edgeOf({ kind, length, hostOffset }: Run, offset: number): Edge | undefined {
    const edge = offset < this.#tail.offset || this.#tail.length === 0 ? this.#head : this.#tail;
    if (edge.offset !== offset || length > edge.length || kind !== edge.run.kind) return undefined;
    return kind === RunKind.unallocated || hostOffset === edge.run.hostOffset ? edge : undefined;
  }

  #find(offset: number, length: number): void {
    if (this.#mapping.find(this.#metadata, offset, length, this.#run)) return;
    this.#metadata.fill(this.#mapping.sliceKey(offset));
    this.#mapping.find(this.#metadata, offset, length, this.#run);
  }

  #isBackingZero(offset: number, length: number): boolean {
    const backing = this.#backing;
    const covered = backing ? Math.min(length, backing.size - offset) : 0;
    if (covered <= 0) return true;
    return backing!.scan(offset, covered, ({ data }) => !data, { steps: MAX_BACKING_STEPS });
  }
}
