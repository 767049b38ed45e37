/**
 * Sectors that say which operation wrote them, for tests that kill the daemon: what was acknowledged must be there, what
 * was only begun may be there.
 */

import fs from 'node:fs';
import { SECTOR_SIZE } from '../support/pattern.js';

/** One change of the disk. Operation 0 is what the disk held before: zeros. */
export interface Operation {
  /** Counts up over the whole life of an image, for each writer. */
  readonly number: number;
  readonly kind: 'write' | 'punch' | 'zero';
  /** In sectors. */
  readonly start: number;
  readonly count: number;
}

/** Every sector different from every other: its number, the operation, and noise from both. */
export function stampedSectors(operation: number, start: number, count: number): Buffer {
  const bytes = Buffer.alloc(count * SECTOR_SIZE);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const perSector = SECTOR_SIZE / 4;
  for (let index = 0; index < count; index++) {
    let state = (Math.imul(operation, 0x9e3779b1) ^ Math.imul(start + index + 1, 0x85ebca6b)) | 1;
    for (let word = 2; word < perSector; word++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[index * perSector + word] = state;
    }
    words[index * perSector] = operation;
    words[index * perSector + 1] = start + index;
  }
  return bytes;
}

/** Each writer has every so many-th stripe for itself: 96 KiB, so that they share clusters of all sizes. */
export const STRIPE = 192;

const ZEROS = Buffer.alloc(SECTOR_SIZE);

/** What a disk may hold: for each sector the last acknowledged operation, and those begun since. */
export class ExpectedDisk {
  /** Of each sector; 0 for zeros. */
  readonly #stamps: Uint32Array;
  readonly #begun: Operation[] = [];

  constructor(sectors: number) {
    this.#stamps = new Uint32Array(sectors);
  }

  begin(operation: Operation): void {
    this.#begun.push(operation);
  }

  /**
   * All operations of this writer up to this number are on stable storage, in this order.
   * @returns how many they are
   */
  acknowledge(number: number, isOfWriter: (operation: Operation) => boolean): number {
    const before = this.#begun.length;
    for (let index = 0; index < this.#begun.length; ) {
      const operation = this.#begun[index]!;
      if (operation.number > number || !isOfWriter(operation)) {
        index++;
        continue;
      }
      const stamp = operation.kind === 'write' ? operation.number : 0;
      this.#stamps.fill(stamp, operation.start, operation.start + operation.count);
      this.#begun.splice(index, 1);
    }
    return before - this.#begun.length;
  }

  /**
   * Compares; from then on what was found is what is expected.
   * @param raw a file with the guest's view
   * @returns how many sectors show an operation that was not acknowledged
   * @throws Error that names the first wrong sectors
   */
  verify(raw: string): number {
    const bytes = fs.readFileSync(raw);
    const wrong: string[] = [];
    let early = 0;
    if (bytes.length !== this.#stamps.length * SECTOR_SIZE)
      throw new Error(`${bytes.length} bytes in ${raw}`);
    for (let sector = 0; sector < this.#stamps.length; sector++) {
      const found = bytes.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE);
      const expected = this.#stamps[sector]!;
      if (isStamped(found, expected, sector)) continue;
      const other = this.#begun.find(
        ({ start, count, kind, number }) =>
          sector >= start &&
          sector < start + count &&
          isStamped(found, kind === 'write' ? number : 0, sector),
      );
      if (other === undefined) {
        const head = `${found.readUInt32LE(0)} of sector ${found.readUInt32LE(4)}`;
        wrong.push(`sector ${sector}: operation ${expected} expected, found ${head}`);
      } else {
        this.#stamps[sector] = other.kind === 'write' ? other.number : 0;
        early++;
      }
    }
    this.#begun.length = 0;
    if (wrong.length > 0) throw new Error(`${wrong.length} wrong: ${wrong.slice(0, 5).join('; ')}`);
    return early;
  }
}

function isStamped(found: Buffer, operation: number, sector: number): boolean {
  if (operation === 0) return found.equals(ZEROS);
  return found.readUInt32LE(0) === operation && found.equals(stampedSectors(operation, sector, 1));
}

/** A small generator of random numbers, so that a failing run can be repeated as far as time permits. */
export function randomFrom(seed: number): (below: number) => number {
  let state = (seed ^ 0x9e3779b9) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
