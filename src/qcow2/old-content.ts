/**
 * What the disk reads where a change covers a part of a cluster only. It is read before the change takes the lock: the
 * host may take seconds for it, or never answer, and everybody else would wait. Under the lock it counts if the disk
 * still has it at the same place, which is pinned; there the bytes of backing files, of snapshots and of compressed
 * clusters never change.
 */
import type { Geometry } from './geometry.js';
import { Run, RunKind } from './mapping.js';
import type { MetadataCache } from './metadata.js';
import type { Reader } from './reader.js';

/** What lies before or behind a change in the same subcluster. */
class Edge {
  /** Guest offset. */
  offset = 0;
  /** Bytes; 0 while nothing is read. */
  length = 0;
  readonly run = new Run();
  bytes = Buffer.alloc(0);
}

export class OldContent {
  readonly #unitSize: number;
  readonly #metadata: MetadataCache;
  readonly #reader: Reader;
  readonly #run = new Run();
  readonly #head = new Edge();
  readonly #tail = new Edge();

  constructor({ unitSize }: Geometry, metadata: MetadataCache, reader: Reader) {
    this.#unitSize = unitSize;
    this.#metadata = metadata;
    this.#reader = reader;
  }

  /**
   * Reads what a change of `[offset, offset + length)` will want. Needs no lock, and must not have the exclusive one;
   * pins what it has read until `release`.
   */
  prefetch(offset: number, length: number): void {
    const unitSize = this.#unitSize;
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
      this.#reader.unpin();
    }
  }

  /** What the disk reads, under the exclusive lock. */
  read(target: Buffer, at: number, length: number, offset: number): void {
    const run = this.#run;
    for (let done = 0; done < length; done += run.length) {
      this.#reader.find(offset + done, length - done, run);
      const edge = this.#edgeOf(run, offset + done);
      if (edge === undefined) this.#reader.read(run, target, at + done, offset + done);
      else edge.bytes.copy(target, at + done, 0, run.length);
    }
  }

  /** True when the mapping alone proves that the bytes are zeros. Needs the exclusive lock. */
  isZero(offset: number, length: number): boolean {
    const run = this.#run;
    for (let done = 0; done < length; done += run.length) {
      this.#reader.find(offset + done, length - done, run);
      if (run.kind === RunKind.zero) continue;
      if (run.kind !== RunKind.unallocated || !this.#reader.isBackingZero(offset + done, run.length))
        return false;
    }
    return true;
  }

  /** True when a backing file has something at `offset`. */
  hasBacking(offset: number): boolean {
    return this.#reader.hasBacking(offset);
  }

  #prefetch(edge: Edge, offset: number, length: number): void {
    if (length <= 0) return;
    const { run } = edge;
    this.#reader.pin(offset, length, run);
    try {
      if (!this.#hasOldContent(run, offset)) return;
      if (edge.bytes.length === 0) edge.bytes = Buffer.alloc(this.#unitSize);
      this.#reader.read(run, edge.bytes, 0, offset);
      edge.offset = offset;
      edge.length = run.length;
    } finally {
      if (edge.length === 0) this.#reader.unpin();
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
}
