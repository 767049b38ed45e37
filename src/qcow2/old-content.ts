/**
 * What the disk reads where a change covers a part of a cluster only. It is read before the change takes the lock: the
 * host may take seconds for it, or never answer, and everybody else would wait. Under the lock it counts if the disk
 * still has it at the same place, and that has not been released in between; there the bytes of backing files, of
 * snapshots and of compressed clusters never change.
 */
import type { Geometry } from './geometry.js';
import { Run, RunKind } from './mapping.js';
import type { MetadataCache } from './metadata.js';
import type { Reader } from './reader.js';
import type { Erasure } from './writing/eraser.js';

/** A run that was read, or could not be. */
class Piece {
  readonly run = new Run();
  /** Guest offset. */
  offset = 0;
  /** See `ImageState.settled`. */
  settled = 0;
  /** Where its bytes are in the buffer. */
  at = 0;
  failure: unknown;
}

/** What lies before or behind a change in the same cluster. */
class Edge {
  readonly pieces: Piece[] = [];
  count = 0;
  /** Guest offset of the change's beginning or end; -1 for none. */
  of = -1;
  bytes = Buffer.alloc(0);

  next(): Piece {
    if (this.count === this.pieces.length) this.pieces.push(new Piece());
    return this.pieces[this.count]!;
  }

  forget(): void {
    this.count = 0;
    this.of = -1;
  }
}

export class OldContent {
  readonly #geometry: Geometry;
  readonly #metadata: MetadataCache;
  readonly #reader: Reader;
  readonly #run = new Run();
  readonly #head = new Edge();
  readonly #tail = new Edge();

  constructor(geometry: Geometry, metadata: MetadataCache, reader: Reader) {
    this.#geometry = geometry;
    this.#metadata = metadata;
    this.#reader = reader;
  }

  /**
   * Reads what a change of `[offset, offset + length)` may want, until `forget`. Needs no lock, and must not have the
   * exclusive one. What cannot be read fails when it is wanted.
   * @param how an erasure copies the other subclusters only where it covers a part of one
   */
  prefetch(offset: number, length: number, how: 'write' | Erasure): void {
    const { unitSize, clusterSize } = this.#geometry;
    const end = offset + length;
    if (this.#head.of !== offset) {
      const unit = offset - (offset % unitSize);
      this.#restart(this.#head, offset);
      if (how === 'write' || unit < offset)
        this.#prefetch(this.#head, offset - (offset % clusterSize), unit, false);
      this.#prefetch(this.#head, unit, offset, true);
    }
    if (this.#tail.of !== end) {
      this.#restart(this.#tail, end);
      const unitEnd = this.#roundUp(end, unitSize);
      this.#prefetch(this.#tail, end, unitEnd, true);
      if (how === 'write' || unitEnd > end)
        this.#prefetch(this.#tail, unitEnd, this.#roundUp(end, clusterSize), false);
    }
  }

  forget(): void {
    this.#head.forget();
    this.#tail.forget();
  }

  /** What the disk reads, under the exclusive lock. @throws Qcow2fsError */
  read(target: Buffer, at: number, length: number, offset: number): void {
    const run = this.#run;
    for (let done = 0; done < length; done += run.length) {
      this.#reader.find(offset + done, length - done, run);
      if (this.#copy(this.#head, run, target, at + done, offset + done)) continue;
      if (this.#copy(this.#tail, run, target, at + done, offset + done)) continue;
      this.#reader.read(run, target, at + done, offset + done);
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

  #roundUp(offset: number, size: number): number {
    return Math.min(Math.ceil(offset / size) * size, this.#metadata.state.diskSize);
  }

  #restart(edge: Edge, of: number): void {
    edge.forget();
    edge.of = of;
  }

  /** @param inUnit the change covers a part of the same subcluster; of the others only data is copied */
  #prefetch(edge: Edge, from: number, to: number, inUnit: boolean): void {
    for (let offset = from; offset < to; ) {
      const piece = edge.next();
      const { run } = piece;
      try {
        this.#reader.pin(offset, to - offset, run);
      } catch {
        // The change fails, too.
        return;
      }
      try {
        if (this.#isWanted(run, offset, inUnit)) this.#keep(edge, piece, offset);
      } finally {
        this.#reader.unpin(run);
      }
      offset += run.length;
    }
  }

  #isWanted(run: Run, offset: number, inUnit: boolean): boolean {
    if (run.kind === RunKind.data) return !run.owned;
    if (!inUnit) return false;
    return run.kind === RunKind.compressed || (run.kind === RunKind.unallocated && this.hasBacking(offset));
  }

  /** @param piece its run is pinned */
  #keep(edge: Edge, piece: Piece, offset: number): void {
    const { clusterSize } = this.#geometry;
    if (edge.bytes.length === 0) edge.bytes = Buffer.alloc(clusterSize);
    piece.offset = offset;
    piece.settled = this.#metadata.state.settled;
    piece.at = offset % clusterSize;
    piece.failure = undefined;
    try {
      this.#reader.read(piece.run, edge.bytes, piece.at, offset);
    } catch (error) {
      piece.failure = error;
    }
    edge.count++;
  }

  /**
   * @param run as it is under the lock
   * @returns whether it was read before
   */
  #copy(edge: Edge, run: Run, target: Buffer, at: number, offset: number): boolean {
    for (let i = 0; i < edge.count; i++) {
      const piece = edge.pieces[i]!;
      const skip = offset - piece.offset;
      if (skip < 0 || skip + run.length > piece.run.length) continue;
      if (!this.#isSame(run, piece, skip)) return false;
      if (piece.failure !== undefined) throw piece.failure;
      edge.bytes.copy(target, at, piece.at + skip, piece.at + skip + run.length);
      return true;
    }
    return false;
  }

  #isSame(run: Run, piece: Piece, skip: number): boolean {
    if (run.kind !== piece.run.kind) return false;
    if (run.kind === RunKind.unallocated) return true;
    // What belongs to this disk alone may have been written in place.
    if (run.owned) return false;
    const moved = run.kind === RunKind.data ? skip : 0;
    return run.hostOffset === piece.run.hostOffset + moved && piece.settled === this.#metadata.state.settled;
  }
}
