/** Host files in memory, and storages over them that tell of every call before it takes effect. */
import type { Storage } from '../../../src/storage.js';

/** What the engine asks of a file. */
export type HostCall =
  | { readonly do: 'read'; readonly position: number; readonly length: number }
  | { readonly do: 'write'; readonly position: number; readonly bytes: Buffer }
  /** As FileStorage: a hole never changes the size of the file. */
  | { readonly do: 'punch' | 'zero'; readonly position: number; readonly length: number }
  | { readonly do: 'truncate'; readonly size: number }
  | { readonly do: 'sync' };

export type Change = Exclude<HostCall, { do: 'read' | 'sync' }>;

export class MemoryFile {
  #bytes: Buffer;
  #size: number;

  constructor(content: Buffer) {
    this.#bytes = Buffer.from(content);
    this.#size = content.length;
  }

  get size(): number {
    return this.#size;
  }

  /** Not a copy. */
  get content(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  apply(change: Change): void {
    switch (change.do) {
      case 'write': {
        this.#reserve(change.position + change.bytes.length);
        change.bytes.copy(this.#bytes, change.position);
        this.#size = Math.max(this.#size, change.position + change.bytes.length);
        return;
      }
      case 'punch':
      case 'zero':
        this.content.fill(0, change.position, Math.min(this.#size, change.position + change.length));
        return;
      case 'truncate':
        this.#reserve(change.size);
        if (change.size < this.#size) this.#bytes.fill(0, change.size, this.#size);
        this.#size = change.size;
        return;
    }
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return;
    const larger = Buffer.alloc(2 * size);
    this.content.copy(larger);
    this.#bytes = larger;
  }
}

/** Told of a call before it takes effect; what it throws, the engine sees instead. */
export type Witness = (call: HostCall, file: MemoryFile, path: string) => void;

export interface WitnessedOptions {
  /** False for a block device. */
  readonly extensible?: boolean;
  readonly close?: () => void;
}

export class WitnessedStorage implements Storage {
  readonly path: string;
  readonly extensible: boolean;
  readonly #file: MemoryFile;
  readonly #witness: Witness;
  readonly #close: () => void;

  constructor(path: string, file: MemoryFile, witness: Witness, options: WitnessedOptions = {}) {
    this.path = path;
    this.extensible = options.extensible ?? true;
    this.#file = file;
    this.#witness = witness;
    this.#close = options.close ?? (() => {});
  }

  size(): number {
    return this.#file.size;
  }

  allocatedBytes(): number {
    return this.#file.size;
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    this.#witness({ do: 'read', position, length }, this.#file, this.path);
    if (position >= this.#file.size) return 0;
    return this.#file.content.copy(target, targetOffset, position, position + length);
  }

  nextData(position: number): number {
    return position;
  }

  nextHole(): number {
    return this.#file.size;
  }

  write(source: Buffer, sourceOffset: number, length: number, position: number): void {
    const bytes = Buffer.from(source.subarray(sourceOffset, sourceOffset + length));
    this.#change({ do: 'write', position, bytes });
  }

  punch(position: number, length: number): void {
    this.#change({ do: 'punch', position, length });
  }

  zero(position: number, length: number): void {
    this.#change({ do: 'zero', position, length });
  }

  truncate(size: number): void {
    this.#change({ do: 'truncate', size });
  }

  sync(): void {
    this.#witness({ do: 'sync' }, this.#file, this.path);
  }

  close(): void {
    this.#close();
  }

  #change(change: Change): void {
    this.#witness(change, this.#file, this.path);
    this.#file.apply(change);
  }
}
