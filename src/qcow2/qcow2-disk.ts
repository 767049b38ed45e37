/** One qcow2 image over its backing disk, as a `Disk`. */
import type { Disk, Extent, ExtentVisitor, ScanBudget } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import type { Storage } from '../storage.js';
import { ALLOCATION_KEY, type Allocation } from './allocation.js';
import { ClusterData } from './cluster-data.js';
import { CompressedClusters, type SharedCompression } from './compressed.js';
import type { EncryptionState } from './encryption.js';
import { SECTOR_SIZE } from './format/units.js';
import type { Geometry } from './geometry.js';
import { Mapping, Run, RunKind } from './mapping.js';
import { MetadataCache, type SharedMetadata } from './metadata.js';
import { OldContent } from './old-content.js';
import { Reader } from './reader.js';
import type { Erasure } from './writing/eraser.js';
import { ImageWriter, type WriteParameters } from './writing/image-writer.js';

/** Everything but the files: plain data that travels to other threads. */
export interface Qcow2Parameters {
  readonly geometry: Geometry;
  readonly compression: SharedCompression;
  readonly encryption: EncryptionState | undefined;
  readonly metadata: SharedMetadata;
  /** Undefined for a disk that is read-only. */
  readonly writing: WriteParameters | undefined;
}

export class Qcow2Disk implements Disk {
  readonly readOnly: boolean;
  readonly growable: boolean;
  readonly #geometry: Geometry;
  readonly #image: Storage;
  readonly #data: ClusterData;
  readonly #backing: Disk | undefined;
  readonly #metadata: MetadataCache;
  readonly #mapping: Mapping;
  readonly #reader: Reader;
  readonly #writer: ImageWriter | undefined;
  readonly #run = new Run();
  /** What a change does not cover. */
  readonly #old: OldContent;

  constructor(
    parameters: Qcow2Parameters,
    image: Storage,
    dataFile: Storage | undefined,
    backing: Disk | undefined,
  ) {
    const { geometry, compression, encryption, writing } = parameters;
    this.readOnly = writing === undefined;
    this.growable = writing !== undefined && writing.fixedSize === undefined;
    this.#geometry = geometry;
    this.#image = image;
    this.#metadata = new MetadataCache(parameters.metadata, geometry, image, this.readOnly);
    this.#data = new ClusterData(dataFile ?? image, encryption, this.#metadata.state, geometry.clusterSize);
    this.#backing = backing;
    this.#mapping = new Mapping(geometry);
    const compressed = new CompressedClusters(image, compression);
    this.#reader = new Reader(
      image.path,
      !this.readOnly,
      this.#metadata,
      this.#mapping,
      this.#data,
      compressed,
      backing,
    );
    this.#old = new OldContent(geometry, this.#metadata, this.#reader);
    this.#writer =
      writing &&
      new ImageWriter(writing, {
        geometry,
        image,
        data: this.#data,
        metadata: this.#metadata,
        mapping: this.#mapping,
        backingSize: backing?.size ?? 0,
        old: this.#old,
      });
  }

  get size(): number {
    return this.#metadata.state.diskSize;
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    const run = this.#run;
    let done = 0;
    let inflates = false;
    while (done < length) {
      const at = offset + done;
      this.#reader.pin(at, length - done, run);
      try {
        if (run.kind === RunKind.compressed && !inflates) {
          inflates = true;
          this.#reader.compressed.ahead.note(offset, length);
        }
        if (run.kind === RunKind.corrupt) this.#writer?.noteCorruption();
        this.#reader.read(run, target, targetOffset + done, at);
      } finally {
        this.#reader.unpin(run);
      }
      done += run.length;
    }
  }

  get canReadAhead(): boolean {
    return this.#reader.compressed.ahead.isWanted(this.size) || (this.#backing?.canReadAhead ?? false);
  }

  readAhead(): void {
    const { ahead } = this.#reader.compressed;
    if (ahead.isWanted(this.size)) this.#readAheadAt(ahead.next);
    else this.#backing?.readAhead();
  }

  write(source: Buffer, sourceOffset: number, length: number, offset: number): void {
    const writer = this.#writable();
    writer.mark(offset, length);
    this.#old.forget();
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const left = length - done;
      const written = this.#writeInPlace(writer, source, sourceOffset + done, left, at);
      done +=
        written > 0
          ? written
          : this.#change('write', at, left, () => writer.write(source, sourceOffset + done, left, at));
    }
  }

  zero(offset: number, length: number): void {
    this.#erase('zero', offset, length);
  }

  discard(offset: number, length: number): void {
    this.#erase('discard', offset, length);
  }

  resize(size: number): void {
    const writer = this.#writable();
    this.#exclusively(() => writer.resize(Math.ceil(size / SECTOR_SIZE) * SECTOR_SIZE));
  }

  undoGrowth(from: number, to: number): void {
    const writer = this.#writable();
    this.#exclusively(() => writer.undoGrowth(from, to));
  }

  flush(): void {
    this.#writer?.flush();
  }

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      if (budget.steps-- <= 0) return false;
      const run = this.#locate(at, end - at);
      const runLength = run.length;
      const complete =
        run.kind === RunKind.unallocated
          ? this.#scanBacking(run, at, visit, budget)
          : visit(this.#describe(run, at));
      if (!complete) return false;
      at += runLength;
    }
    return true;
  }

  storedBytes(): number {
    return this.#data.storage.allocatedBytes() + (this.#backing?.storedBytes() ?? 0);
  }

  /** How this image alone stores the disk; undefined when that takes more than `maxSteps` runs to tell. */
  allocation(maxSteps: number): Allocation | undefined {
    const allocation: Allocation = { data: 0, compressed: 0, zero: 0, unallocated: 0, damaged: 0 };
    let at = 0;
    for (let steps = 0; at < this.size; steps++) {
      if (steps === maxSteps) return undefined;
      const run = this.#locate(at, this.size - at);
      allocation[ALLOCATION_KEY[run.kind]] += run.length;
      at += run.length;
    }
    return allocation;
  }

  close(): void {
    try {
      this.#writer?.close();
    } finally {
      this.#backing?.close();
      if (this.#data.storage !== this.#image) this.#data.storage.close();
      this.#image.close();
    }
  }

  /** Failures surface at the actual read. */
  #readAheadAt(offset: number): void {
    const run = this.#run;
    const { ahead } = this.#reader.compressed;
    const { clusterSize, sliceCoverage } = this.#geometry;
    ahead.advance(offset + clusterSize);
    try {
      this.#reader.pin(offset, Math.min(clusterSize, this.size - offset), run);
    } catch {
      ahead.advance(offset + sliceCoverage);
      return;
    }
    try {
      if (run.kind === RunKind.compressed) this.#reader.compressed.prefetch(run);
    } catch {
      // Nothing is kept of it.
    } finally {
      this.#reader.unpin(run);
    }
  }

  #writable(): ImageWriter {
    if (this.#writer === undefined) throw new Qcow2fsError('read-only', 'the disk is read-only');
    return this.#writer;
  }

  /**
   * Of an encrypted image under the shared lock: a change of a part of a sector, which needs the exclusive one, reads and
   * writes all of the sector.
   * @returns bytes written where they lie already; 0 when the beginning of the range needs more than that
   */
  #writeInPlace(writer: ImageWriter, source: Buffer, at: number, length: number, offset: number): number {
    const run = this.#run;
    const data = this.#data;
    for (;;) {
      const metadata = this.#metadata.enterShared();
      try {
        if (this.#mapping.find(metadata, offset, length, run)) {
          if (!writer.canWriteInPlace(run, offset, run.length)) return 0;
          if (data.isEncrypted) {
            data.write(source, at, run.length, offset, run.hostOffset);
            return run.length;
          }
          this.#metadata.state.pin();
          break;
        }
      } finally {
        this.#metadata.leaveShared();
      }
      this.#reader.fill(offset);
    }
    try {
      data.write(source, at, run.length, offset, run.hostOffset);
      return run.length;
    } finally {
      this.#reader.unpin(run);
    }
  }

  #erase(how: Erasure, offset: number, length: number): void {
    const writer = this.#writable();
    writer.mark(offset, length);
    this.#old.forget();
    for (let done = 0; done < length; ) {
      const at = offset + done;
      done += this.#change(how, at, length - done, () => writer.erase(how, at, length - done));
    }
  }

  /** The beginning of a range under the exclusive lock. @returns bytes changed */
  #change(how: 'write' | Erasure, offset: number, length: number, action: () => number): number {
    this.#old.prefetch(offset, length, how);
    return this.#exclusively(action);
  }

  #exclusively<T>(action: () => T): T {
    this.#metadata.enterExclusive();
    try {
      return action();
    } finally {
      this.#metadata.leaveExclusive();
    }
  }

  /** The run at `offset`; where its table cannot be read, a corrupt one. */
  #locate(offset: number, maxLength: number): Run {
    const run = this.#run;
    for (;;) {
      const metadata = this.#metadata.enterShared();
      const found = this.#mapping.find(metadata, offset, maxLength, run, true);
      this.#metadata.leaveShared();
      if (found) return run;
      try {
        this.#reader.fill(offset);
      } catch (error) {
        if (!(error instanceof Qcow2fsError) || error.kind === 'internal') throw error;
        const { sliceCoverage } = this.#geometry;
        run.kind = RunKind.corrupt;
        run.stored = false;
        run.problem = error.message;
        run.length = Math.min(maxLength, sliceCoverage - (offset % sliceCoverage));
        return run;
      }
    }
  }

  /** What is corrupt counts as data: reading there fails, so it must not pass for a hole. */
  #describe(run: Run, offset: number): Extent {
    const { kind } = run;
    return {
      offset,
      length: run.length,
      data: kind !== RunKind.zero,
      depth: 0,
      present: true,
      compressed: kind === RunKind.compressed,
      shared: kind === RunKind.data && !run.owned,
      problem: kind === RunKind.corrupt ? run.problem : undefined,
      hostOffset: this.#placeOf(run),
    };
  }

  /** Of an encrypted run nobody wants to know, for its bytes are not there. */
  #placeOf(run: Run): number | undefined {
    return run.stored && !this.#data.isEncrypted ? run.hostOffset : undefined;
  }

  /** @param run unallocated */
  #scanBacking(run: Run, offset: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const backing = this.#backing;
    const { length } = run;
    const place = this.#placeOf(run);
    const covered = backing ? Math.max(0, Math.min(length, backing.size - offset)) : 0;
    const deeper = (extent: Extent): boolean => visit({ ...extent, depth: extent.depth + 1 });
    if (covered > 0 && !backing?.scan(offset, covered, deeper, budget)) return false;
    if (covered === length) return true;
    return visit({
      offset: offset + covered,
      length: length - covered,
      data: false,
      depth: 0,
      present: false,
      compressed: false,
      shared: false,
      problem: undefined,
      hostOffset: place === undefined ? undefined : place + covered,
    });
  }
}
