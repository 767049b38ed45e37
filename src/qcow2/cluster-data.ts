/**
 * Moves guest bytes between buffers and the clusters that hold them, through the cipher where the image has one. Knows
 * nothing of mappings: the caller says where the bytes lie.
 */
import type { Storage } from '../storage.js';
import { Encryption, type EncryptionSpec } from './encryption.js';
import { guest, type HostOffset, host, SECTOR_SIZE } from './format/units.js';
import type { ImageState } from './image-state.js';

/** What is encrypted, or read unaligned, goes through a buffer of this size. */
const BOUNCE_BYTES = 256 * 1024;

export class ClusterData {
  /** The image, or its external data file. */
  readonly storage: Storage;
  readonly #encryption: Encryption | undefined;
  readonly #state: ImageState;
  #bounce = Buffer.alloc(0);

  /** @param state is told of every write, for the next flush */
  constructor(storage: Storage, encryption: EncryptionSpec | undefined, state: ImageState) {
    this.storage = storage;
    this.#encryption = encryption && new Encryption(encryption);
    this.#state = state;
  }

  get isEncrypted(): boolean {
    return this.#encryption !== undefined;
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
    if (encryption === undefined || !this.isPartial(offset, length)) {
      this.#readAll(target, at, length, position);
      encryption?.decrypt(target, at, length, guest(offset), position);
      return;
    }
    for (let done = 0; done < length; ) {
      const skip = (offset + done) % SECTOR_SIZE;
      const useful = Math.min(length - done, BOUNCE_BYTES - skip);
      const sectors = wholeSectors(skip + useful);
      this.#readSectors(encryption, sectors, offset + done - skip, host(position + done - skip));
      this.#buffer().copy(target, at + done, skip, skip + useful);
      done += useful;
    }
  }

  /** As `read`, the other way; `source` stays as it is. Partial encrypted sectors need the exclusive lock. */
  write(source: Buffer, at: number, length: number, offset: number, position: HostOffset): void {
    const encryption = this.#encryption;
    if (encryption === undefined) {
      this.storage.write(source, at, length, position);
      this.#state.wrote(length);
      return;
    }
    const bounce = this.#buffer();
    for (let done = 0; done < length; ) {
      const skip = (offset + done) % SECTOR_SIZE;
      const useful = Math.min(length - done, BOUNCE_BYTES - skip);
      const sectors = wholeSectors(skip + useful);
      const start = offset + done - skip;
      const target = host(position + done - skip);
      if (skip + useful < sectors || skip > 0) this.#readSectors(encryption, sectors, start, target);
      source.copy(bounce, skip, at + done, at + done + useful);
      encryption.encrypt(bounce, 0, sectors, guest(start), target);
      this.storage.write(bounce, 0, sectors, target);
      done += useful;
    }
    this.#state.wrote(length);
  }

  /** Makes bytes of the file itself zeros, which is what an unencrypted disk then shows. */
  zero(position: number, length: number): void {
    this.storage.zero(position, length);
    this.#state.wrote(length);
  }

  #readSectors(encryption: Encryption, length: number, offset: number, position: HostOffset): void {
    const bounce = this.#buffer();
    this.#readAll(bounce, 0, length, position);
    encryption.decrypt(bounce, 0, length, guest(offset), position);
  }

  /** What lies beyond the end of the file reads as zeros, as QEMU reads it. */
  #readAll(target: Buffer, at: number, length: number, position: HostOffset): void {
    const read = this.storage.read(target, at, length, position);
    if (read < length) target.fill(0, at + read, at + length);
  }

  #buffer(): Buffer {
    if (this.#bounce.length === 0) this.#bounce = Buffer.alloc(BOUNCE_BYTES);
    return this.#bounce;
  }
}

function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}
