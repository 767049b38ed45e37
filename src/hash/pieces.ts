/**
 * Digests of pieces, each by the thread that reads it. Many small pieces make one part, which a thread claims, reads and
 * hashes at once; a piece that is larger than what is read at a time is a part of its own.
 */
import crypto, { createHash, type Hash } from 'node:crypto';
import type { Progress } from '../progress.js';
import { ALL_CLAIMED, Claims, type SharedClaims, TOO_FAR } from './claims.js';
import type { PartReader } from './part-reader.js';

export interface PiecesShare {
  readonly claims: SharedClaims;
  /** Bytes of the disk. */
  readonly size: number;
  readonly pieceBytes: number;
  /** Bytes of a part: a multiple of `pieceBytes`. */
  readonly partBytes: number;
  /** Bytes that are read at a time. */
  readonly chunkBytes: number;
  readonly algorithms: readonly string[];
}

/** @param digests of all pieces of the part in order; of each piece in the order of the algorithms */
export type PartListener = (part: number, digests: string[]) => void;

export class PieceHasher {
  readonly #share: PiecesShare;
  readonly #claims: Claims;
  readonly #reader: PartReader;
  readonly #progress: Progress;
  readonly #buffer: Buffer;
  readonly #zeros: Buffer;
  /** Of pieces of zeros, by their length: there are two at most, the last piece may be shorter. */
  readonly #zeroDigests = new Map<number, readonly string[]>();

  constructor(share: PiecesShare, reader: PartReader, progress: Progress) {
    this.#share = share;
    this.#claims = new Claims(share.claims);
    this.#reader = reader;
    this.#progress = progress;
    this.#buffer = Buffer.alloc(share.chunkBytes);
    this.#zeros = Buffer.alloc(share.chunkBytes);
  }

  run(onPart: PartListener): void {
    while (!this.#progress.isCancelled) {
      const event = this.#claims.event;
      const part = this.#claims.claim();
      if (part === ALL_CLAIMED) return;
      if (part === TOO_FAR) {
        this.#claims.wait(event);
        continue;
      }
      const digests = this.#hashPart(part);
      if (digests !== undefined) onPart(part, digests);
    }
    this.#claims.announce();
  }

  /** @returns undefined when the work was cancelled */
  #hashPart(part: number): string[] | undefined {
    const { size, partBytes, chunkBytes, pieceBytes } = this.#share;
    const offset = part * partBytes;
    const length = Math.min(partBytes, size - offset);
    if (length > chunkBytes) return this.#hashLarge(offset, length);
    const isZero = this.#reader.isZero(offset, length);
    if (!isZero) this.#reader.read(this.#buffer, offset, length);
    const digests: string[] = [];
    for (let at = 0; at < length; at += pieceBytes) {
      const pieceLength = Math.min(pieceBytes, length - at);
      if (isZero || this.#holdsZeros(at, pieceLength)) digests.push(...this.#zeroDigestsOf(pieceLength));
      else this.#hashSmall(this.#buffer.subarray(at, at + pieceLength), digests);
    }
    this.#progress.advance(length);
    return digests;
  }

  #holdsZeros(at: number, length: number): boolean {
    return this.#buffer.compare(this.#zeros, 0, length, at, at + length) === 0;
  }

  #hashSmall(bytes: Buffer, digests: string[]): void {
    for (const name of this.#share.algorithms) digests.push(crypto.hash(name, bytes, 'hex'));
  }

  #hashLarge(offset: number, length: number): string[] | undefined {
    if (this.#reader.isZero(offset, length)) {
      const digests = [...this.#zeroDigestsOf(length)];
      this.#progress.advance(length);
      return digests;
    }
    const hashes = this.#share.algorithms.map((name) => createHash(name));
    for (let done = 0; done < length; ) {
      if (this.#progress.isCancelled) return undefined;
      const step = Math.min(this.#share.chunkBytes, length - done);
      this.#update(hashes, offset + done, step);
      this.#progress.advance(step);
      done += step;
    }
    return hashes.map((hash) => hash.digest('hex'));
  }

  #update(hashes: readonly Hash[], offset: number, length: number): void {
    const isZero = this.#reader.isZero(offset, length);
    if (!isZero) this.#reader.read(this.#buffer, offset, length);
    const bytes = (isZero ? this.#zeros : this.#buffer).subarray(0, length);
    for (const hash of hashes) hash.update(bytes);
  }

  #zeroDigestsOf(length: number): readonly string[] {
    const known = this.#zeroDigests.get(length);
    if (known !== undefined) return known;
    const hashes = this.#share.algorithms.map((name) => createHash(name));
    for (let done = 0; done < length; done += this.#zeros.length) {
      const bytes = this.#zeros.subarray(0, Math.min(this.#zeros.length, length - done));
      for (const hash of hashes) hash.update(bytes);
    }
    const digests = hashes.map((hash) => hash.digest('hex'));
    this.#zeroDigests.set(length, digests);
    return digests;
  }
}
