/** Host files in shared memory, and storages over them that record what each thread asks of them and when. */
import fs from 'node:fs';
import { FileStorage } from '../../src/host/file-storage.js';
import type { StorageOf } from '../../src/qcow2/chain.js';
import type { Storage } from '../../src/storage.js';
import { type Shares, stall } from '../support/contention/stall.js';
import type { Change } from '../support/crash/files.js';
import type { Random } from '../support/random-guest.js';

/** Room for what is written behind the end of the file. */
const GROWTH = 16 * 1024 * 1024;
/** Of calls that are held up at each of their steps. */
const STALLS: Shares = { all: 0.12, long: 0 };

const SIZE = 0;
const MUTEX = 1;

/** Plain memory: it travels to the threads. */
export interface SharedFile {
  readonly path: string;
  readonly content: SharedArrayBuffer;
  readonly words: SharedArrayBuffer;
}

/** One call, in ticks of a clock that all threads share. */
export interface Recorded {
  readonly path: string;
  readonly start: number;
  readonly end: number;
  /** When a change takes effect; for a sync its end. */
  readonly applied: number;
  /** Undefined for a sync. */
  readonly change: Change | undefined;
}

export function shareFile(path: string, bytes: Buffer): SharedFile {
  const content = new SharedArrayBuffer(bytes.length + GROWTH);
  Buffer.from(content).set(bytes);
  const words = new SharedArrayBuffer(8);
  new Int32Array(words)[SIZE] = bytes.length;
  return { path, content, words };
}

export function sharedContent({ content, words }: SharedFile): Buffer {
  return Buffer.from(Buffer.from(content, 0, new Int32Array(words)[SIZE]));
}

export class Recorder {
  readonly log: Recorded[] = [];
  readonly #files: readonly SharedFile[];
  readonly #clock: Int32Array;
  readonly #random: Random;

  /** @param random of the calling thread alone */
  constructor(files: readonly SharedFile[], clock: SharedArrayBuffer, random: Random) {
    this.#files = files;
    this.#clock = new Int32Array(clock);
    this.#random = random;
  }

  /** A moment that no other one equals. */
  tick(): number {
    return 1 + Atomics.add(this.#clock, 0, 1);
  }

  /** The files that are shared, recorded; others are read from the host. */
  readonly storageOf: StorageOf = (file) => {
    const shared = this.#files.find(({ path }) => path === file.path);
    if (shared === undefined) return new FileStorage(file);
    return new RecordingStorage(shared, this, () => fs.closeSync(file.fd));
  };

  pause(): void {
    stall(this.#random, STALLS);
  }
}

class RecordingStorage implements Storage {
  readonly path: string;
  readonly extensible = true;
  readonly #bytes: Buffer;
  readonly #words: Int32Array;
  readonly #recorder: Recorder;
  readonly close: () => void;

  constructor({ path, content, words }: SharedFile, recorder: Recorder, close: () => void) {
    this.path = path;
    this.#bytes = Buffer.from(content);
    this.#words = new Int32Array(words);
    this.#recorder = recorder;
    this.close = close;
  }

  size(): number {
    return Atomics.load(this.#words, SIZE);
  }

  allocatedBytes(): number {
    return this.size();
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    this.#recorder.pause();
    const end = Math.min(this.size(), position + length);
    return position >= end ? 0 : this.#bytes.copy(target, targetOffset, position, end);
  }

  nextData(position: number): number {
    return position;
  }

  nextHole(): number {
    return this.size();
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

  /** Reaches what had ended before it began. */
  sync(): void {
    const recorder = this.#recorder;
    const start = recorder.tick();
    recorder.pause();
    const end = recorder.tick();
    recorder.log.push({ path: this.path, start, applied: end, end, change: undefined });
  }

  #change(change: Change): void {
    const recorder = this.#recorder;
    const start = recorder.tick();
    recorder.pause();
    this.#lock();
    const applied = recorder.tick();
    this.#apply(change);
    this.#unlock();
    recorder.pause();
    recorder.log.push({ path: this.path, start, applied, end: recorder.tick(), change });
  }

  #apply(change: Change): void {
    const size = this.size();
    switch (change.do) {
      case 'write':
        change.bytes.copy(this.#bytes, change.position);
        Atomics.store(this.#words, SIZE, Math.max(size, change.position + change.bytes.length));
        return;
      case 'punch':
      case 'zero':
        if (change.position < size) {
          this.#bytes.fill(0, change.position, Math.min(size, change.position + change.length));
        }
        return;
      case 'truncate':
        if (change.size < size) this.#bytes.fill(0, change.size, size);
        Atomics.store(this.#words, SIZE, change.size);
    }
  }

  #lock(): void {
    while (Atomics.compareExchange(this.#words, MUTEX, 0, 1) !== 0) Atomics.wait(this.#words, MUTEX, 1);
  }

  #unlock(): void {
    Atomics.store(this.#words, MUTEX, 0);
    Atomics.notify(this.#words, MUTEX, 1);
  }
}
