/**
 * Moves guest bytes between buffers and the clusters that hold them, through the cipher where the image has one. Knows
 * nothing of mappings: the caller says where the bytes lie.
 */
import { Qcow2fsError } from '../errors.js';
import { notice } from '../notice.js';
import type { Storage } from '../storage.js';
import { Encryption, type EncryptionState } from './encryption.js';
import { guest, type HostOffset, hex, host, SECTOR_SIZE } from './format/units.js';
import type { ImageState } from './image-state.js';

/** How long a write of a part of an encrypted sector waits for reads: milliseconds. A host may hang. */
const PATIENCE = 1000;

export class ClusterData {
  /** The image, or its external data file. */
  readonly storage: Storage;
  readonly isEncrypted: boolean;
  readonly #encryption: Encryption | undefined;
  readonly #isLocked: boolean;
  readonly #state: ImageState;
  readonly #clusterSize: number;

  /** @param state is told of every write, for the next flush */
  constructor(
    storage: Storage,
    encryption: EncryptionState | undefined,
    state: ImageState,
    clusterSize: number,
  ) {
    this.storage = storage;
    this.#clusterSize = clusterSize;
    this.isEncrypted = encryption !== undefined;
    this.#isLocked = encryption === 'locked';
    this.#encryption =
      encryption === undefined || encryption === 'locked' ? undefined : new Encryption(encryption);
    this.#state = state;
  }

  /** True where a write must read first: a part of an encrypted sector. */
  isPartial(offset: number, length: number): boolean {
    return this.#encryption !== undefined && (offset % SECTOR_SIZE !== 0 || length % SECTOR_SIZE !== 0);
  }

  /**
   * @param offset guest offset of the bytes
   * @param position where they lie
   */
  read(target: Buffer, at: number, length: number, offset: number, position: HostOffset): void {
    const encryption = this.#encryption;
    if (encryption === undefined) {
      if (this.#isLocked) throw new Qcow2fsError('secret', `${this.storage.path}: the image is encrypted`);
      this.#readAll(target, at, length, offset, position);
      return;
    }
    const { work } = encryption;
    for (let done = 0; done < length; ) {
      const skip = (offset + done) % SECTOR_SIZE;
      const useful = Math.min(length - done, work.length - skip);
      this.#readSectors(
        encryption,
        wholeSectors(skip + useful),
        offset + done - skip,
        position + done - skip,
      );
      work.copy(target, at + done, skip, skip + useful);
      done += useful;
    }
  }

  /** As `read`, the other way; `source` stays as it is. Partial encrypted sectors need the exclusive lock. */
  write(source: Buffer, at: number, length: number, offset: number, position: HostOffset): void {
    const encryption = this.#encryption;
    // Who reads other bytes of an encrypted sector while it is written would decrypt two halves that do not go together.
    if (this.isPartial(offset, length)) this.#state.drainPins(PATIENCE);
    if (encryption === undefined) {
      this.storage.write(source, at, length, position);
      this.#state.wrote(length);
      return;
    }
    const { work } = encryption;
    for (let done = 0; done < length; ) {
      const skip = (offset + done) % SECTOR_SIZE;
      const useful = Math.min(length - done, work.length - skip);
      const sectors = wholeSectors(skip + useful);
      const start = offset + done - skip;
      const home = position + done - skip;
      if (skip + useful < sectors || skip > 0) this.#readSectors(encryption, sectors, start, home);
      source.copy(work, skip, at + done, at + done + useful);
      encryption.encrypt(work, 0, sectors, guest(start), host(home));
      this.storage.write(work, 0, sectors, home);
      done += useful;
    }
    this.#state.wrote(length);
  }

  /** Makes bytes of the file itself zeros, which is what an unencrypted disk then shows. */
  zero(position: number, length: number): void {
    this.storage.zero(position, length);
    this.#state.wrote(length);
  }

  /** Decrypted sectors, at the start of the cipher's work buffer. */
  #readSectors(encryption: Encryption, length: number, offset: number, position: number): void {
    const { work } = encryption;
    this.#readAll(work, 0, length, offset, position);
    encryption.decrypt(work, 0, length, guest(offset), host(position));
  }

  /** What lies beyond the end of the file reads as zeros, as QEMU reads it. */
  #readAll(target: Buffer, at: number, length: number, offset: number, position: number): void {
    const read = this.storage.read(target, at, length, position);
    if (read === length) return;
    target.fill(0, at + read, at + length);
    this.#noteMissing(offset, position, length);
  }

  /** The last cluster of a file need not be whole, but one that is not there at all was cut off. */
  #noteMissing(offset: number, position: number, length: number): void {
    const size = this.storage.size();
    const there = Math.max(0, Math.ceil(size / this.#clusterSize) * this.#clusterSize - position);
    if (there >= length) return;
    const what = `ends at ${hex(size)}, before clusters that it should hold, which read as zeros`;
    const missing = { offset: offset + there, length: length - there };
    notice(`${this.storage.path}: ${what}; was it cut off?`, missing);
  }
}

function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}
