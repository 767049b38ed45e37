/** A part of a file as a `Storage` of its own, for an image that lies within another file. Nothing writes it. */
import { Qcow2fsError } from './errors.js';
import type { Storage } from './storage.js';

export class PartStorage implements Storage {
  readonly extensible = false;
  readonly #file: Storage;
  readonly #start: number;
  readonly #length: number;

  /**
   * @param start where it begins in the file, bytes
   * @param length bytes, or infinite: as far as the file goes
   */
  constructor(file: Storage, start: number, length: number) {
    this.#file = file;
    this.#start = start;
    this.#length = length;
  }

  get path(): string {
    return this.#file.path;
  }

  size(): number {
    return Math.min(this.#length, Math.max(0, this.#file.size() - this.#start));
  }

  /** Of the whole file, as far as the part can take them. */
  allocatedBytes(): number {
    return Math.min(this.size(), this.#file.allocatedBytes());
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    const inside = Math.min(length, this.#length - position);
    return inside <= 0 ? 0 : this.#file.read(target, targetOffset, inside, this.#start + position);
  }

  nextData(position: number): number {
    return this.#inside(this.#file.nextData(this.#start + position));
  }

  nextHole(position: number): number {
    return this.#inside(this.#file.nextHole(this.#start + position));
  }

  write(): never {
    throw this.#refusal();
  }
  punch(): never {
    throw this.#refusal();
  }
  zero(): never {
    throw this.#refusal();
  }
  truncate(): never {
    throw this.#refusal();
  }
  sync(): void {}

  close(): void {
    this.#file.close();
  }

  #inside(position: number): number {
    return Math.min(position - this.#start, this.size());
  }

  #refusal(): Qcow2fsError {
    return new Qcow2fsError('read-only', `${this.path}: a part of a file is read-only`);
  }
}
