/** One qcow2 image over its backing disk, as a `Disk`: the read path. */
import type { Disk, Extent, ExtentVisitor, ScanBudget } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { ReadOnlyDisk } from '../read-only-disk.js';
import type { Storage } from '../storage.js';
import { CompressedClusters } from './compressed.js';
import { Encryption, type EncryptionSpec } from './encryption.js';
import type { Header } from './format/header.js';
import { guest, type HostOffset, host, SECTOR_SIZE } from './format/units.js';
import type { Geometry } from './geometry.js';
import { Mapping, Run, RunKind } from './mapping.js';
import { MetadataCache, type SharedMetadata } from './metadata.js';

/** Unaligned reads of an encrypted image go through a buffer of this size. */
const BOUNCE_BYTES = 64 * 1024;

/** Guest bytes by the way they are stored. */
export interface Allocation {
  data: number;
  compressed: number;
  zero: number;
  unallocated: number;
  damaged: number;
}

/** Everything but the files: plain data that travels to other threads. */
export interface Qcow2Parameters {
  /** Bytes of the guest disk. */
  readonly size: number;
  readonly geometry: Geometry;
  readonly compressionType: Header['compressionType'];
  readonly encryption: EncryptionSpec | undefined;
  readonly metadata: SharedMetadata;
}

const ALLOCATION_KEY = {
  [RunKind.unallocated]: 'unallocated',
  [RunKind.data]: 'data',
  [RunKind.zero]: 'zero',
  [RunKind.compressed]: 'compressed',
  [RunKind.corrupt]: 'damaged',
} as const;

export class Qcow2Disk extends ReadOnlyDisk {
  readonly size: number;
  readonly #geometry: Geometry;
  readonly #image: Storage;
  /** Where guest data lies: the image, or its external data file. */
  readonly #data: Storage;
  readonly #backing: Disk | undefined;
  readonly #metadata: MetadataCache;
  readonly #mapping: Mapping;
  readonly #compressed: CompressedClusters;
  readonly #encryption: Encryption | undefined;
  readonly #run = new Run();
  #bounce = Buffer.alloc(0);

  constructor(
    parameters: Qcow2Parameters,
    image: Storage,
    dataFile: Storage | undefined,
    backing: Disk | undefined,
  ) {
    super();
    this.size = parameters.size;
    this.#geometry = parameters.geometry;
    this.#image = image;
    this.#data = dataFile ?? image;
    this.#backing = backing;
    this.#metadata = new MetadataCache(parameters.metadata, parameters.geometry, image);
    this.#mapping = new Mapping(parameters.geometry);
    this.#compressed = new CompressedClusters(
      image,
      parameters.geometry.clusterSize,
      parameters.compressionType,
    );
    this.#encryption = parameters.encryption && new Encryption(parameters.encryption);
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    const run = this.#run;
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const metadata = this.#metadata.enterShared();
      let found: boolean;
      try {
        found = this.#mapping.find(metadata, at, length - done, run);
        if (found) this.#readRun(run, target, targetOffset + done, at);
      } finally {
        this.#metadata.leaveShared();
      }
      if (found) done += run.length;
      else this.#fill(at);
    }
  }

  scan(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      if (budget.steps-- <= 0) return false;
      const run = this.#locate(at, end - at);
      const runLength = run.length;
      const complete =
        run.kind === RunKind.unallocated
          ? this.#scanBacking(at, runLength, visit, budget)
          : visit(this.#describe(run, at));
      if (!complete) return false;
      at += runLength;
    }
    return true;
  }

  storedBytes(): number {
    return this.#data.allocatedBytes() + (this.#backing?.storedBytes() ?? 0);
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
    this.#backing?.close();
    if (this.#data !== this.#image) this.#data.close();
    this.#image.close();
  }

  #fill(offset: number): void {
    const metadata = this.#metadata.enterExclusive();
    try {
      metadata.fill(this.#mapping.sliceKey(offset));
    } finally {
      this.#metadata.leaveExclusive();
    }
  }

  /** The run at `offset`; where its table cannot be read, a corrupt one. */
  #locate(offset: number, maxLength: number): Run {
    const run = this.#run;
    for (;;) {
      const metadata = this.#metadata.enterShared();
      const found = this.#mapping.find(metadata, offset, maxLength, run);
      this.#metadata.leaveShared();
      if (found) return run;
      try {
        this.#fill(offset);
      } catch (error) {
        if (!(error instanceof Qcow2fsError) || error.kind === 'internal') throw error;
        const { sliceCoverage } = this.#geometry;
        run.kind = RunKind.corrupt;
        run.problem = error.message;
        run.length = Math.min(maxLength, sliceCoverage - (offset % sliceCoverage));
        return run;
      }
    }
  }

  /** What is corrupt counts as data: reading there fails, so it must not pass for a hole. */
  #describe(run: Run, offset: number): Extent {
    const stored = run.kind === RunKind.data && this.#encryption === undefined;
    return {
      offset,
      length: run.length,
      data: run.kind !== RunKind.zero,
      depth: 0,
      compressed: run.kind === RunKind.compressed,
      hostOffset: stored ? run.hostOffset : undefined,
    };
  }

  #scanBacking(offset: number, length: number, visit: ExtentVisitor, budget: ScanBudget): boolean {
    const backing = this.#backing;
    const covered = backing ? Math.max(0, Math.min(length, backing.size - offset)) : 0;
    const deeper = (extent: Extent): boolean => visit({ ...extent, depth: extent.depth + 1 });
    if (covered > 0 && !backing?.scan(offset, covered, deeper, budget)) return false;
    if (covered === length) return true;
    return visit({
      offset: offset + covered,
      length: length - covered,
      data: false,
      depth: 0,
      compressed: false,
      hostOffset: undefined,
    });
  }

  #readRun(run: Run, target: Buffer, at: number, offset: number): void {
    switch (run.kind) {
      case RunKind.unallocated:
        this.#readBacking(target, at, run.length, offset);
        return;
      case RunKind.zero:
        target.fill(0, at, at + run.length);
        return;
      case RunKind.data:
        if (this.#encryption) this.#readEncrypted(this.#encryption, run, target, at, offset);
        else this.#readData(target, at, run.length, run.hostOffset);
        return;
      case RunKind.compressed: {
        const start = offset - run.clusterStart;
        this.#compressed.content(run).copy(target, at, start, start + run.length);
        return;
      }
      case RunKind.corrupt:
        throw new Qcow2fsError('corrupt', `${this.#image.path}: ${run.problem}`);
    }
  }

  #readBacking(target: Buffer, at: number, length: number, offset: number): void {
    const available = this.#backing ? Math.max(0, Math.min(length, this.#backing.size - offset)) : 0;
    if (available > 0) this.#backing?.read(target, at, available, offset);
    if (available < length) target.fill(0, at + available, at + length);
  }

  /** What lies beyond the end of the file reads as zeros, as QEMU reads it. */
  #readData(target: Buffer, at: number, length: number, position: HostOffset): void {
    const read = this.#data.read(target, at, length, position);
    if (read < length) target.fill(0, at + read, at + length);
  }

  #readEncrypted(encryption: Encryption, run: Run, target: Buffer, at: number, offset: number): void {
    if (offset % SECTOR_SIZE === 0 && run.length % SECTOR_SIZE === 0) {
      this.#readData(target, at, run.length, run.hostOffset);
      encryption.decrypt(target, at, run.length, guest(offset), run.hostOffset);
      return;
    }
    if (this.#bounce.length === 0) this.#bounce = Buffer.alloc(BOUNCE_BYTES);
    for (let done = 0; done < run.length; ) {
      const skip = (offset + done) % SECTOR_SIZE;
      const useful = Math.min(run.length - done, BOUNCE_BYTES - skip);
      const sectors = Math.ceil((skip + useful) / SECTOR_SIZE) * SECTOR_SIZE;
      const position = host(run.hostOffset + done - skip);
      this.#readData(this.#bounce, 0, sectors, position);
      encryption.decrypt(this.#bounce, 0, sectors, guest(offset + done - skip), position);
      this.#bounce.copy(target, at + done, skip, skip + useful);
      done += useful;
    }
  }
}
