/** Compressed clusters: reads and inflates them, keeps the latest ones, and inflates ahead of who reads on and on. */
import zlib from 'node:zlib';
import { errnoName, Qcow2fsError } from '../errors.js';
import { type Decompress, zlibInflate } from '../host/inflate.js';
import type { Storage } from '../storage.js';
import type { Header } from './format/header.js';
import { hex, TWO_32 } from './format/units.js';
import {
  allocateInflatedClusters,
  InflatedClusters,
  NO_SLOT,
  type SharedInflatedClusters,
} from './inflated-clusters.js';
import type { Run } from './mapping.js';
import { allocateReadAhead, ReadAhead } from './read-ahead.js';
import { inflateZstd } from './zstd.js';

/** Clusters that a stream may inflate to before it passes for a bomb, where it cannot be stopped after the first. */
const MAX_EXCESS = 16;

/** What the threads of an image share. */
export interface SharedCompression {
  readonly type: Header['compressionType'];
  readonly clusterSize: number;
  /** Shared with other images of a long chain. */
  readonly inflated: SharedInflatedClusters;
  /** Tells the image from the others: its place in the chain. */
  readonly depth: number;
  /** Of a `ReadAhead`. */
  readonly ahead: SharedArrayBuffer;
}

/**
 * Caches that the images of a chain have together for each cluster size. One for all would do, but what two images
 * inflate ahead would push out each other's: a chain of two took 40 % more time to read.
 */
const CACHES = 4;
/** The inflated clusters of a chain, by cluster size and share. */
export type ChainClusters = Map<string, SharedInflatedClusters>;

export function allocateCompression(
  { compressionType, clusterSize }: Pick<Header, 'compressionType' | 'clusterSize'>,
  chain: ChainClusters = new Map(),
  depth = 0,
): SharedCompression {
  const share = `${clusterSize} ${depth % CACHES}`;
  const inflated = chain.get(share) ?? allocateInflatedClusters(clusterSize);
  chain.set(share, inflated);
  return { type: compressionType, clusterSize, inflated, depth, ahead: allocateReadAhead() };
}

/** Where a thread works, for one cluster at a time, whichever image of a chain it is of. */
let input = Buffer.alloc(0);
/** For a cluster that finds no slot. */
let spare = Buffer.alloc(0);

/** A run stays where it is while it is read: the caller holds the lock, or has pinned it (`ImageState.pin`). */
export class CompressedClusters {
  readonly ahead: ReadAhead;
  readonly #storage: Storage;
  readonly #type: Header['compressionType'];
  readonly #clusterSize: number;
  readonly #inflated: InflatedClusters;
  readonly #depth: number;

  constructor(storage: Storage, { type, clusterSize, inflated, depth, ahead }: SharedCompression) {
    this.#storage = storage;
    this.#type = type;
    this.#clusterSize = clusterSize;
    this.#inflated = new InflatedClusters(inflated);
    this.#depth = depth;
    // The other half is what was read lately, or is being read.
    this.ahead = new ReadAhead(ahead, clusterSize, (this.#inflated.slots / 2) * clusterSize);
  }

  /**
   * Fills `target[at, at + run.length)` from guest offset `offset` in the cluster.
   * @throws Qcow2fsError `corrupt` when it does not inflate to a cluster
   */
  read(run: Run, target: Buffer, at: number, offset: number): void {
    const inflated = this.#inflated;
    const { length } = run;
    let slot = inflated.find(run.hostOffset, this.#bytesAndDepth(run));
    // Nobody reads a cluster twice who reads it at once.
    if (slot === NO_SLOT && length === this.#clusterSize) {
      this.#inflate(run, target.subarray(at, at + length));
      return;
    }
    if (slot === NO_SLOT) slot = this.#fill(run, false);
    // Another thread may have been quicker.
    if (slot === NO_SLOT) slot = inflated.find(run.hostOffset, this.#bytesAndDepth(run));
    const start = offset - run.clusterStart;
    if (slot === NO_SLOT) {
      if (spare.length < this.#clusterSize) spare = Buffer.alloc(this.#clusterSize);
      const cluster = spare.subarray(0, this.#clusterSize);
      this.#inflate(run, cluster);
      cluster.copy(target, at, start, start + length);
      return;
    }
    const first = slot * this.#clusterSize + start;
    inflated.content.copy(target, at, first, first + length);
    inflated.release(slot);
  }

  /** Inflates the cluster of the run, so that a `read` to come finds it. */
  prefetch(run: Run): void {
    const slot = this.#fill(run, true);
    if (slot !== NO_SLOT) this.#inflated.release(slot);
  }

  /** @returns the slot that holds the cluster now; `NO_SLOT` when another thread fills one, or when none is free */
  #fill(run: Run, isAhead: boolean): number {
    const slot = this.#inflated.claim(run.hostOffset, this.#bytesAndDepth(run), isAhead);
    if (slot === NO_SLOT) return slot;
    const start = slot * this.#clusterSize;
    try {
      this.#inflate(run, this.#inflated.content.subarray(start, start + this.#clusterSize));
    } catch (error) {
      this.#inflated.abandon(slot);
      throw error;
    }
    this.#inflated.publish(slot);
    return slot;
  }

  #bytesAndDepth(run: Run): number {
    return this.#depth * TWO_32 + run.compressedBytes;
  }

  #inflate(run: Run, target: Buffer): void {
    if (input.length < run.compressedBytes) input = Buffer.alloc(run.compressedBytes);
    const read = this.#storage.read(input, 0, run.compressedBytes, run.hostOffset);
    const source = input.subarray(0, read);
    const sound = this.#type === 'zstd' ? inflateZstd(source, target) : inflateZlib(source, target);
    if (sound) return;
    throw new Qcow2fsError(
      'corrupt',
      `${this.#storage.path}: compressed cluster of guest offset ${hex(run.clusterStart)} at ${hex(run.hostOffset)} does not inflate`,
    );
  }
}

/**
 * Raw deflate without a header; what follows the stream is ignored.
 * @returns false when the stream is damaged or gives fewer bytes than `target` has
 */
function inflateZlib(source: Buffer, target: Buffer): boolean {
  direct ??= zlibInflate() ?? inflateByNode;
  return direct(source, target, 0, target.length) === target.length;
}

/** Loaded with the first compressed cluster that a thread meets. */
let direct: Decompress | undefined;

/** For a Node that keeps its zlib to itself. */
export function inflateByNode(source: Uint8Array, target: Uint8Array, at: number, room: number): number {
  try {
    return place(inflateRaw(source, room), target, at, room);
  } catch (error) {
    if (errnoName(error) !== 'ERR_BUFFER_TOO_LARGE') return -1;
    return inflateTooMuch(source, target, at, room);
  }
}

/** Streams that give more than a cluster are nobody's, but QEMU takes the first cluster of them. */
function inflateTooMuch(source: Uint8Array, target: Uint8Array, at: number, room: number): number {
  try {
    return place(inflateRaw(source, MAX_EXCESS * room), target, at, room);
  } catch {
    return -1;
  }
}

function place(content: Buffer, target: Uint8Array, at: number, room: number): number {
  return content.copy(target, at, 0, room);
}

function inflateRaw(source: Uint8Array, maxOutputLength: number): Buffer {
  const { Z_SYNC_FLUSH } = zlib.constants;
  return zlib.inflateRawSync(source, {
    chunkSize: maxOutputLength,
    maxOutputLength,
    finishFlush: Z_SYNC_FLUSH,
  });
}
