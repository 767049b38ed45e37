/**
 * Everything that changes one image, put together for one thread. All calls but `canWriteInPlace`, `flush` and `close`
 * need the exclusive lock of the image.
 */
import { Qcow2fsError } from '../../errors.js';
import { RwLock } from '../../host/rw-lock.js';
import type { Storage } from '../../storage.js';
import type { ClusterData } from '../cluster-data.js';
import type { Header } from '../format/header.js';
import { hex } from '../format/units.js';
import type { Geometry } from '../geometry.js';
import { type Mapping, Run, RunKind } from '../mapping.js';
import type { MetadataCache } from '../metadata.js';
import type { OldContent } from '../old-content.js';
import { Allocator } from './allocator.js';
import { Committer } from './commit.js';
import { Corruption } from './corruption.js';
import { DirtyBitmaps, type SharedBitmap } from './dirty-bitmaps.js';
import { Eraser, type Erasure } from './eraser.js';
import { L2Tables } from './l2-tables.js';
import { MetadataMap, type SharedMetadataMap } from './metadata-map.js';
import { PendingFrees, type SharedPendingFrees } from './pending-frees.js';
import { growRefcountTable } from './refcount-growth.js';
import { Refcounts, type SharedRefcounts } from './refcounts.js';
import { growDisk, undoGrowth } from './resize.js';
import { ClusterWriter } from './writer.js';

/** More unsynced data than this would keep the lock for long. */
const MUCH_KIB = 4096;

/** Plain data: it travels to the threads. */
export interface WriteParameters {
  readonly header: Pick<Header, 'version' | 'incompatibleFeatures' | 'refcountBits'>;
  readonly refcounts: SharedRefcounts;
  readonly frees: SharedPendingFrees;
  readonly map: SharedMetadataMap;
  readonly flushLock: SharedArrayBuffer;
  /** Those that must follow every change of the disk. */
  readonly bitmaps: readonly SharedBitmap[];
  /** The data file shows the guest's view to those who read it alone. */
  readonly rawExternal: boolean;
  /** Why the disk keeps its size; undefined where it may grow. */
  readonly fixedSize: string | undefined;
}

export interface ImageParts {
  readonly geometry: Geometry;
  readonly image: Storage;
  readonly data: ClusterData;
  readonly metadata: MetadataCache;
  readonly mapping: Mapping;
  /** Bytes of the backing disk; 0 for none. */
  readonly backingSize: number;
  readonly old: OldContent;
}

export class ImageWriter {
  readonly #parameters: WriteParameters;
  readonly #parts: ImageParts;
  readonly #map: MetadataMap;
  readonly #allocator: Allocator;
  readonly #committer: Committer;
  readonly #corruption: Corruption;
  readonly #clusters: ClusterWriter;
  readonly #eraser: Eraser;
  readonly #bitmaps: DirtyBitmaps;
  /** Held by the thread that flushes, so that nobody passes a flush that has not ended. */
  readonly #flushLock: RwLock;
  readonly #run = new Run();

  constructor(parameters: WriteParameters, parts: ImageParts) {
    const { geometry, image, data, metadata, mapping, old } = parts;
    const { state } = metadata;
    const { refcountBits } = parameters.header;
    this.#parameters = parameters;
    this.#parts = parts;
    this.#flushLock = new RwLock(parameters.flushLock);
    this.#map = new MetadataMap(parameters.map, geometry.clusterSize);
    this.#corruption = new Corruption(image, parameters.header, state, this.#map);
    const refcounts = new Refcounts(
      parameters.refcounts,
      image,
      this.#corruption,
      geometry.clusterSize,
      refcountBits,
    );
    const allocator = new Allocator({
      image,
      data: data.storage,
      clusterSize: geometry.clusterSize,
      state,
      refcounts,
      map: this.#map,
      frees: new PendingFrees(parameters.frees),
      corruption: this.#corruption,
    });
    this.#allocator = allocator;
    this.#committer = new Committer(image, data.storage, metadata, refcounts, allocator);
    const commit = (): void => this.#committer.commit();
    metadata.whenFull(commit);
    allocator.whenTableIsFull((block) =>
      growRefcountTable(
        {
          image,
          clusterSize: geometry.clusterSize,
          refcountBits,
          state,
          refcounts,
          allocator,
          map: this.#map,
          commit,
          sync: () => this.#committer.syncImage(),
        },
        block,
      ),
    );
    this.#bitmaps = new DirtyBitmaps({
      bitmaps: parameters.bitmaps,
      image,
      clusterSize: geometry.clusterSize,
      state,
      allocator,
      commit,
      sync: () => this.#committer.syncImage(),
    });
    const tables = new L2Tables(image, geometry, metadata, allocator, refcounts);
    this.#clusters = new ClusterWriter({
      geometry,
      metadata,
      tables,
      allocator,
      data,
      old,
      corruption: this.#corruption,
    });
    this.#eraser = new Eraser({
      geometry,
      metadata,
      mapping,
      tables,
      allocator,
      data,
      old,
      writer: this.#clusters,
      corruption: this.#corruption,
      rawExternal: parameters.rawExternal,
    });
  }

  /** True for bytes that may simply be written where they are, once they are pinned. Any lock will do. */
  canWriteInPlace(run: Run, offset: number, length: number): boolean {
    const { state } = this.#parts.metadata;
    if (run.kind !== RunKind.data || !run.owned || !state.touched || state.frozen) return false;
    if (this.#parts.data.isPartial(offset, length)) return false;
    // Guest data in an external data file cannot hit metadata.
    return this.#parts.geometry.externalData || this.#map.find(run.hostOffset, length) === undefined;
  }

  /** Writes the beginning of a range. @returns bytes written; at least 1 */
  write(source: Buffer, at: number, length: number, offset: number): number {
    const { geometry } = this.#parts;
    const run = this.#begin(offset, length);
    if (run.kind !== RunKind.data || !run.owned) return this.#clusters.write(source, at, length, offset);
    if (!geometry.externalData) {
      this.#corruption.refuseMetadata(`guest offset ${hex(offset)} is mapped to`, run.hostOffset, run.length);
    }
    this.#parts.data.write(source, at, run.length, offset, run.hostOffset);
    return run.length;
  }

  /** Erases the beginning of a range. @returns bytes erased; at least 1 */
  erase(how: Erasure, offset: number, length: number): number {
    this.#begin(offset, length);
    return this.#eraser.erase(how, offset, length);
  }

  /** @param size bytes, a multiple of 512 */
  resize(size: number): void {
    const { metadata, image, data, geometry, backingSize } = this.#parts;
    const { fixedSize, rawExternal } = this.#parameters;
    const { diskSize } = metadata.state;
    if (size === diskSize) return;
    const refuse = (why: string): Qcow2fsError => new Qcow2fsError('fixed-size', `${image.path}: ${why}`);
    if (size < diskSize) throw refuse('a disk cannot be made smaller');
    if (fixedSize !== undefined) throw refuse(fixedSize);
    metadata.state.refuseFrozen();
    this.#bitmaps.grow(size);
    this.#touch();
    growDisk(
      {
        image,
        dataFile: rawExternal ? data.storage : undefined,
        geometry,
        metadata,
        allocator: this.#allocator,
        map: this.#map,
        backingSize,
        commit: () => this.#committer.commit(),
        sync: () => this.#committer.syncImage(),
        erase: (offset, length) => this.#eraseAll(offset, length),
      },
      size,
    );
  }

  /** See `Disk`. */
  undoGrowth(from: number, to: number): void {
    const { metadata } = this.#parts;
    undoGrowth({ metadata, erase: (offset, length) => this.#eraseAll(offset, length) }, from, to);
  }

  /** An entry that makes no sense was met. */
  noteCorruption(): void {
    this.#corruption.note();
  }

  /** A part of the disk is about to change. Any lock will do, or none. */
  mark(offset: number, length: number): void {
    if (this.#parameters.bitmaps.length > 0) this.#bitmaps.mark(offset, length);
  }

  /** The last flush: the image says that it is complete. No other thread uses it any more. */
  close(): void {
    this.flush();
    const { metadata } = this.#parts;
    if (!metadata.state.touched || metadata.state.frozen || this.#parameters.bitmaps.length === 0) return;
    metadata.enterExclusive();
    try {
      this.#bitmaps.close();
    } finally {
      metadata.leaveExclusive();
    }
  }

  /** Returns when everything that was written before is on stable storage and can be found there. */
  flush(): void {
    const { metadata } = this.#parts;
    const { state } = metadata;
    this.#flushLock.acquireExclusive();
    try {
      if (state.touched) state.refuseFrozen();
      if (!state.changed) {
        if (state.unsyncedKib > 0) this.#committer.syncAll();
        return;
      }
      // The bulk goes while others work on; what is left for the commit is quick.
      if (state.unsyncedKib > MUCH_KIB) this.#committer.syncAll();
      metadata.enterExclusive();
      try {
        this.#committer.commit();
      } finally {
        metadata.leaveExclusive();
      }
    } finally {
      this.#flushLock.releaseExclusive();
    }
  }

  /** The run at `offset`, after everything that must come before a change. */
  #begin(offset: number, length: number): Run {
    const { metadata, mapping } = this.#parts;
    metadata.state.refuseFrozen();
    this.#touch();
    if (this.#allocator.wantsCommit) this.#committer.commit();
    if (!mapping.find(metadata, offset, length, this.#run)) {
      metadata.fill(mapping.sliceKey(offset));
      mapping.find(metadata, offset, length, this.#run);
    }
    if (this.#run.kind === RunKind.corrupt) this.#corruption.signal(this.#run.problem);
    return this.#run;
  }

  #eraseAll(offset: number, length: number): void {
    for (let done = 0; done < length; ) done += this.erase('zero', offset + done, length - done);
  }

  /** What must come before the first change. */
  #touch(): void {
    const { state } = this.#parts.metadata;
    if (state.touched) return;
    this.#bitmaps.open();
    state.touched = true;
  }
}
