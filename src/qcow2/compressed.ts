/** Compressed clusters: reads, inflates and keeps the latest ones, because a cluster is read in many small pieces. */
import zlib from 'node:zlib';
import { errnoName, Qcow2fsError } from '../errors.js';
import { type Decompress, zlibInflate } from '../host/inflate.js';
import type { Storage } from '../storage.js';
import type { Header } from './format/header.js';
import { hex } from './format/units.js';
import type { Run } from './mapping.js';
import { inflateZstd } from './zstd.js';

/** Bytes of inflated clusters that one thread keeps of one image; at least one cluster. */
const CACHE_BYTES = 2 * 1024 * 1024;
const MAX_CACHED = 16;
/** Clusters that a stream may inflate to before it passes for a bomb, where it cannot be stopped after the first. */
const MAX_EXCESS = 16;

interface CachedCluster {
  /** Host offset of the compressed data; -1 for none. */
  hostOffset: number;
  readonly content: Buffer;
}

export class CompressedClusters {
  readonly #storage: Storage;
  readonly #type: Header['compressionType'];
  /** Latest first. */
  readonly #cached: CachedCluster[] = [];
  readonly #limit: number;
  readonly #clusterSize: number;
  #input = Buffer.alloc(0);

  constructor(storage: Storage, clusterSize: number, type: Header['compressionType']) {
    this.#storage = storage;
    this.#clusterSize = clusterSize;
    this.#type = type;
    this.#limit = Math.max(1, Math.min(MAX_CACHED, Math.floor(CACHE_BYTES / clusterSize)));
  }

  /**
   * The content of the whole cluster; valid until the next call.
   * @throws Qcow2fsError `corrupt` when it does not inflate to a cluster
   */
  content(run: Run): Buffer {
    const index = this.#cached.findIndex(({ hostOffset }) => hostOffset === run.hostOffset);
    const cluster = index === -1 ? this.#recycle() : this.#cached.splice(index, 1)[0]!;
    if (index === -1) {
      this.#inflate(run, cluster.content);
      cluster.hostOffset = run.hostOffset;
    }
    this.#cached.unshift(cluster);
    return cluster.content;
  }

  #recycle(): CachedCluster {
    const oldest = this.#cached.length >= this.#limit ? this.#cached.pop() : undefined;
    return oldest ?? { hostOffset: -1, content: Buffer.alloc(this.#clusterSize) };
  }

  #inflate(run: Run, target: Buffer): void {
    if (this.#input.length < run.compressedBytes) this.#input = Buffer.alloc(run.compressedBytes);
    const read = this.#storage.read(this.#input, 0, run.compressedBytes, run.hostOffset);
    const source = this.#input.subarray(0, read);
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
