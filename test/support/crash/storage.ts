/** A host file in memory that dies at the n-th write or sync and then forgets some of what was not synced. */

import { readFileSync } from 'node:fs';
import type { Storage } from '../../../src/storage.js';

const SECTOR = 512;

export class Crash extends Error {}

interface Piece {
  readonly position: number;
  readonly bytes: Buffer;
}

export class CrashStorage implements Storage {
  readonly path: string;
  readonly extensible = true;
  /** Writes and syncs so far. */
  calls = 0;
  writes = 0;
  bytesWritten = 0;
  /** The call that fails, counted from 1; 0 for none. */
  crashAt = 0;
  /** More than there is in memory: the rest is a hole. */
  holeEnd = 0;
  #stable: Buffer;
  #content: Buffer;
  /** What was written since the last sync, in sectors: a write may be torn. */
  #pending: Piece[] = [];

  constructor(path: string, content: Buffer = readFileSync(path)) {
    this.path = path;
    this.#stable = Buffer.from(content);
    this.#content = Buffer.from(content);
  }

  /** What a reader sees who looks before the machine dies. */
  get content(): Buffer {
    return this.#content;
  }

  /** What is on the disk after the machine died; `keeps` tells which unsynced sectors got there in time. */
  afterCrash(keeps: (index: number, count: number) => boolean): Buffer {
    return this.#pending
      .filter((_, index) => keeps(index, this.#pending.length))
      .reduce(overwritten, this.#stable);
  }

  size(): number {
    return Math.max(this.#content.length, this.holeEnd);
  }

  allocatedBytes(): number {
    return this.#content.length;
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    const count = Math.max(0, Math.min(length, this.size() - position));
    target.fill(0, targetOffset, targetOffset + count);
    this.#content.copy(target, targetOffset, Math.min(position, this.#content.length), position + count);
    return count;
  }

  write(source: Buffer, sourceOffset: number, length: number, position: number): void {
    this.#call();
    this.writes++;
    this.bytesWritten += length;
    for (let at = 0; at < length; at += SECTOR) {
      const from = sourceOffset + at;
      const bytes = Buffer.from(source.subarray(from, Math.min(from + SECTOR, sourceOffset + length)));
      this.#pending.push({ position: position + at, bytes });
    }
    const bytes = source.subarray(sourceOffset, sourceOffset + length);
    this.#content = overwritten(this.#content, { position, bytes });
  }

  sync(): void {
    this.#call();
    this.#stable = Buffer.from(this.#content);
    this.#pending = [];
  }

  nextData(position: number): number {
    return position;
  }

  nextHole(): number {
    return this.size();
  }

  punch(): never {
    throw new Error('not expected');
  }
  zero(): never {
    throw new Error('not expected');
  }
  truncate(): never {
    throw new Error('not expected');
  }
  close(): void {}

  #call(): void {
    this.calls++;
    if (this.calls === this.crashAt) throw new Crash(`call ${this.calls}`);
  }
}

function overwritten(content: Buffer, { position, bytes }: Piece): Buffer {
  const end = position + bytes.length;
  const result = Buffer.alloc(Math.max(content.length, end));
  content.copy(result);
  bytes.copy(result, position);
  return result;
}
