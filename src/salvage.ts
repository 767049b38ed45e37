/**
 * Reads all of a damaged disk that can be read. Where the metadata tell what is damaged, nothing is tried; where the host
 * fails, the range is halved again and again, down to a sector.
 */
import type { Disk, Extent } from './disk.js';
import { Qcow2fsError } from './errors.js';

const SECTOR_SIZE = 512;
/**
 * Reads that may fail in a row before what is left is given up unless its end can be read: so a host that answers
 * nothing at all is done with in a bounded time, and the end of a bad stretch is found all the same.
 */
const PATIENCE = 64;
const MAX_STEPS = 100_000;

/** A range that cannot be read, or is missing. */
export interface Loss {
  readonly offset: number;
  readonly length: number;
  /** Some of it, at least: not every sector was tried. */
  readonly coarse: boolean;
  /** Why, in one line. */
  readonly problem: string;
}

export type LossListener = (loss: Loss) => void;

/**
 * As `Disk.read`, but what cannot be read becomes zeros. Call it with ranges that do not depend on chance, and the same
 * damage gives the same bytes.
 * @param onLoss told in order; neighbours are not merged
 * @throws what is no damage of the disk: a bug, a missing key
 */
export function salvage(
  disk: Disk,
  target: Buffer,
  at: number,
  length: number,
  offset: number,
  onLoss: LossListener,
): void {
  try {
    disk.read(target, at, length, offset);
  } catch (error) {
    problemOf(error);
    new Salvage(disk, target, at - offset, onLoss).run(offset, length);
  }
}

/** @throws `error` itself where it tells of no damage */
function problemOf(error: unknown): string {
  if (error instanceof Qcow2fsError && (error.kind === 'corrupt' || error.kind === 'host-io')) {
    return error.message;
  }
  throw error;
}

class Salvage {
  readonly #disk: Disk;
  readonly #target: Buffer;
  /** From an offset of the disk to an index of the target. */
  readonly #shift: number;
  readonly #onLoss: LossListener;
  #failures = 0;

  constructor(disk: Disk, target: Buffer, shift: number, onLoss: LossListener) {
    this.#disk = disk;
    this.#target = target;
    this.#shift = shift;
    this.#onLoss = onLoss;
  }

  run(offset: number, length: number): void {
    const end = offset + length;
    let at = offset;
    for (const extent of this.#extents(offset, length)) {
      this.#readExtent(extent);
      at = extent.offset + extent.length;
    }
    // Where not even the extents can be told.
    if (at < end) this.#narrow(at, end - at);
  }

  /** As far as they can be told. Collected first: reading while scanning would disturb the scan. */
  #extents(offset: number, length: number): Extent[] {
    const extents: Extent[] = [];
    try {
      this.#disk.scan(offset, length, (extent) => extents.push(extent) > 0, { steps: MAX_STEPS });
    } catch (error) {
      problemOf(error);
    }
    return extents;
  }

  #readExtent({ offset, length, data, compressed, problem }: Extent): void {
    if (problem !== undefined) this.#lose(offset, length, false, problem);
    else if (!data) this.#clear(offset, length);
    else if (!compressed) this.#narrow(offset, length);
    else {
      // A cluster inflates as a whole or not at all.
      const failure = this.#tryRead(offset, length);
      if (failure !== undefined) this.#lose(offset, length, false, failure);
    }
  }

  #narrow(offset: number, length: number): void {
    const failure = this.#tryRead(offset, length);
    if (failure === undefined) return;
    if (length <= SECTOR_SIZE) {
      this.#lose(offset, length, false, failure);
    } else if (this.#failures > PATIENCE && !this.#endIsReadable(offset, length)) {
      this.#lose(offset, length, true, failure);
    } else {
      const half = Math.ceil(length / SECTOR_SIZE / 2) * SECTOR_SIZE;
      this.#narrow(offset, half);
      this.#narrow(offset + half, length - half);
    }
  }

  #endIsReadable(offset: number, length: number): boolean {
    const end = offset + length;
    const sector = Math.max(offset, Math.floor((end - 1) / SECTOR_SIZE) * SECTOR_SIZE);
    return this.#tryRead(sector, end - sector) === undefined;
  }

  /** @returns why the range cannot be read */
  #tryRead(offset: number, length: number): string | undefined {
    try {
      this.#disk.read(this.#target, offset + this.#shift, length, offset);
      this.#failures = 0;
      return undefined;
    } catch (error) {
      this.#failures++;
      return problemOf(error);
    }
  }

  #lose(offset: number, length: number, coarse: boolean, problem: string): void {
    this.#clear(offset, length);
    this.#onLoss({ offset, length, coarse, problem });
  }

  #clear(offset: number, length: number): void {
    const start = offset + this.#shift;
    this.#target.fill(0, start, start + length);
  }
}
