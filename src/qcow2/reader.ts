/** Finds what a part of the disk is and reads it: below the disk, which serves reads, and below the writers. */
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import type { ClusterData } from './cluster-data.js';
import type { CompressedClusters } from './compressed.js';
import { type Mapping, type Run, RunKind } from './mapping.js';
import type { MetadataCache } from './metadata.js';

/** Runs of backing files that are looked at to tell whether they are zeros; if there are more, they count as data. */
const MAX_BACKING_STEPS = 64;

export class Reader {
  readonly compressed: CompressedClusters;
  readonly #path: string;
  readonly #isWritten: boolean;
  readonly #metadata: MetadataCache;
  readonly #mapping: Mapping;
  readonly #data: ClusterData;
  readonly #backing: Disk | undefined;

  /**
   * @param path of the image, for messages
   * @param isWritten whether a place can be given up
   */
  constructor(
    path: string,
    isWritten: boolean,
    metadata: MetadataCache,
    mapping: Mapping,
    data: ClusterData,
    compressed: CompressedClusters,
    backing: Disk | undefined,
  ) {
    this.#path = path;
    this.#isWritten = isWritten;
    this.#metadata = metadata;
    this.#mapping = mapping;
    this.#data = data;
    this.compressed = compressed;
    this.#backing = backing;
  }

  /** Finds the run at `offset` and pins it, beside the lock, until `unpin`. Reads its L2 slice where it is not cached. */
  pin(offset: number, length: number, run: Run): void {
    while (!this.#tryPin(offset, length, run)) this.fill(offset);
  }

  /** @param run of `pin` */
  unpin(run: Run): void {
    if (this.#hasPlace(run)) this.#metadata.state.unpin();
  }

  /** Caches the L2 slice of `offset`, beside the lock. */
  fill(offset: number): void {
    this.#metadata.fillBesideLock(this.#mapping.sliceKey(offset));
  }

  /** As `pin`, under the exclusive lock, which pins everything. */
  find(offset: number, length: number, run: Run): void {
    if (this.#mapping.find(this.#metadata, offset, length, run)) return;
    this.#metadata.fill(this.#mapping.sliceKey(offset));
    this.#mapping.find(this.#metadata, offset, length, run);
  }

  /**
   * @param run starts at guest offset `offset`; pinned
   * @throws Qcow2fsError `corrupt` or `host-io`
   */
  read(run: Run, target: Buffer, at: number, offset: number): void {
    switch (run.kind) {
      case RunKind.unallocated:
        this.#readBacking(target, at, run.length, offset);
        return;
      case RunKind.zero:
        target.fill(0, at, at + run.length);
        return;
      case RunKind.data:
        this.#data.read(target, at, run.length, offset, run.hostOffset);
        return;
      case RunKind.compressed:
        this.compressed.read(run, target, at, offset);
        return;
      case RunKind.corrupt:
        throw new Qcow2fsError('corrupt', `${this.#path}: ${run.problem}`);
    }
  }

  hasBacking(offset: number): boolean {
    return offset < (this.#backing?.size ?? 0);
  }

  /** True when the mapping of the backing files alone proves that they have zeros there, or nothing. */
  isBackingZero(offset: number, length: number): boolean {
    const backing = this.#backing;
    const covered = backing ? Math.min(length, backing.size - offset) : 0;
    if (covered <= 0) return true;
    return backing!.scan(offset, covered, ({ data }) => !data, { steps: MAX_BACKING_STEPS });
  }

  /** @returns false when the slice is not cached; nothing is pinned then */
  #tryPin(offset: number, length: number, run: Run): boolean {
    const metadata = this.#metadata.enterShared();
    const found = this.#mapping.find(metadata, offset, length, run);
    if (found && this.#hasPlace(run)) this.#metadata.state.pin();
    this.#metadata.leaveShared();
    return found;
  }

  /** Whether the run has a place that may be used for something else later. */
  #hasPlace({ kind }: Run): boolean {
    return this.#isWritten && (kind === RunKind.data || kind === RunKind.compressed);
  }

  #readBacking(target: Buffer, at: number, length: number, offset: number): void {
    const available = this.#backing ? Math.max(0, Math.min(length, this.#backing.size - offset)) : 0;
    if (available > 0) this.#backing?.read(target, at, available, offset);
    if (available < length) target.fill(0, at + available, at + length);
  }
}
