/**
 * A thread's share of the digests of the whole disk. A digest goes from one end to the other in one thread; who has
 * nothing to hash reads ahead for all. So there are no more threads than processors, and each always has work.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Progress } from '../progress.js';
import { ALL_CLAIMED, TOO_FAR } from './claims.js';
import type { PartReader } from './part-reader.js';
import { Ring, type SharedRing } from './ring.js';

export interface WholeDiskShare {
  readonly ring: SharedRing;
  /** Bytes of the disk. */
  readonly size: number;
  /** This thread's own; none for a thread that only reads. */
  readonly algorithms: readonly string[];
}

export class WholeDiskHasher {
  readonly #ring: Ring;
  readonly #size: number;
  readonly #partBytes: number;
  readonly #names: readonly string[];
  readonly #hashes: readonly Hash[];
  readonly #zeros: Buffer;
  readonly #reader: PartReader;
  readonly #progress: Progress;
  /** The first part that this thread has not hashed. */
  #next = 0;

  constructor({ ring, size, algorithms }: WholeDiskShare, reader: PartReader, progress: Progress) {
    this.#ring = new Ring(ring);
    this.#size = size;
    this.#partBytes = ring.partBytes;
    this.#names = algorithms;
    this.#hashes = algorithms.map((name) => createHash(name));
    this.#zeros = Buffer.alloc(ring.partBytes);
    this.#reader = reader;
    this.#progress = progress;
  }

  /** @returns name and digest of this thread's algorithms; undefined when the work was cancelled */
  run(): [name: string, digest: string][] | undefined {
    const { claims } = this.#ring;
    while (!this.#progress.isCancelled) {
      const event = claims.event;
      if (this.#hashNext() || this.#readNext()) continue;
      if (this.#isDone()) return this.#hashes.map((hash, i) => [this.#names[i]!, hash.digest('hex')]);
      claims.wait(event);
    }
    claims.announce();
    return undefined;
  }

  #isDone(): boolean {
    const { claims } = this.#ring;
    return this.#hashes.length > 0 ? this.#next === claims.parts : claims.isAllClaimed;
  }

  #hashNext(): boolean {
    const ring = this.#ring;
    const part = this.#next;
    if (this.#hashes.length === 0 || part === ring.claims.parts || !ring.isReady(part)) return false;
    const length = this.#lengthOf(part);
    const slot = ring.isZero(part) ? this.#zeros : ring.slot(part);
    const bytes = length === slot.length ? slot : slot.subarray(0, length);
    for (const hash of this.#hashes) hash.update(bytes);
    this.#next++;
    if (ring.release(part)) this.#progress.advance(length);
    return true;
  }

  #readNext(): boolean {
    const ring = this.#ring;
    const part = ring.claims.claim();
    if (part === ALL_CLAIMED || part === TOO_FAR) return false;
    const offset = part * this.#partBytes;
    const length = this.#lengthOf(part);
    const isZero = this.#reader.isZero(offset, length);
    if (!isZero) this.#reader.read(ring.slot(part), offset, length);
    ring.publish(part, isZero);
    return true;
  }

  #lengthOf(part: number): number {
    return Math.min(this.#partBytes, this.#size - part * this.#partBytes);
  }
}
