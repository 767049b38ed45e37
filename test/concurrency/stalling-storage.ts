/** A host that now and then lets a thread wait in the middle of things, so that others overtake it there. */
import { FileStorage, type OpenFile } from '../../src/host/file-storage.js';
import type { Storage } from '../../src/storage.js';
import { OFTEN, SELDOM, stall } from '../support/contention/stall.js';
import type { Random } from '../support/random-guest.js';

/** Word of a `RwLock` that is 0 while nobody holds it. */
const STATE = 0;

/**
 * @param lock of the image: calls that are made while nobody holds it are held up for longer
 * @param random of the calling thread alone
 */
export function stallingStorage(file: OpenFile, lock: SharedArrayBuffer, random: Random): Storage {
  return new StallingStorage(file, lock, random);
}

class StallingStorage extends FileStorage {
  readonly #lock: Int32Array;
  readonly #random: Random;

  constructor(file: OpenFile, lock: SharedArrayBuffer, random: Random) {
    super(file);
    this.#lock = new Int32Array(lock);
    this.#random = random;
  }

  override read(target: Buffer, targetOffset: number, length: number, position: number): number {
    return this.#stalled(() => super.read(target, targetOffset, length, position));
  }

  override write(source: Buffer, sourceOffset: number, length: number, position: number): void {
    this.#stalled(() => super.write(source, sourceOffset, length, position));
  }

  override punch(position: number, length: number): void {
    this.#stalled(() => super.punch(position, length));
  }

  override zero(position: number, length: number): void {
    this.#stalled(() => super.zero(position, length));
  }

  override sync(): void {
    this.#stalled(() => super.sync());
  }

  #stalled<T>(call: () => T): T {
    this.#pause();
    const result = call();
    this.#pause();
    return result;
  }

  #pause(): void {
    stall(this.#random, Atomics.load(this.#lock, STATE) === 0 ? OFTEN : SELDOM);
  }
}
