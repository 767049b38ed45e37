/**
 * Holes of a host file below clusters that were set aside and not written: such runs have a place and are zeros all the
 * same. As QEMU asks the protocol layer (block/io.c, `bdrv_co_block_status` with BDRV_BLOCK_RECURSE).
 */
import type { Storage } from '../storage.js';
import type { MapExtent } from './extents.js';

/** Tells parts of a run apart that the layer itself does not. */
export interface Splitter {
  /** @param extent data with a place in the file */
  split(extent: MapExtent, visit: (extent: MapExtent) => void): void;
}

/** A raw file may end within a sector of its disk: what lacks is a hole for QEMU, while a `Disk` has whole sectors. */
export class RawEnd implements Splitter {
  readonly #end: number;

  /** @param end of the disk, bytes */
  constructor(end: number) {
    this.#end = end;
  }

  split(extent: MapExtent, visit: (extent: MapExtent) => void): void {
    const length = this.#end - extent.start;
    if (length >= extent.length) {
      visit(extent);
      return;
    }
    const tail = { ...extent, start: this.#end, length: extent.length - length, data: false, zero: true };
    visit({ ...extent, length });
    visit({ ...tail, offset: extent.offset! + length });
  }
}

export class HostHoles implements Splitter {
  readonly #storage: Storage;
  /** The part of the file that was asked for last: a hole or not, as a whole. */
  #from = 0;
  #to = 0;
  #isHole = false;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  split(extent: MapExtent, visit: (extent: MapExtent) => void): void {
    const position = extent.offset!;
    for (let done = 0; done < extent.length; ) {
      const at = position + done;
      if (at < this.#from || at >= this.#to) this.#look(at);
      const length = Math.min(this.#to - at, extent.length - done);
      visit({ ...extent, start: extent.start + done, length, zero: this.#isHole, offset: at });
      done += length;
    }
  }

  /** What lies beyond the end of the file reads as zeros. */
  #look(position: number): void {
    const hole = this.#storage.nextHole(position);
    this.#from = position;
    this.#isHole = hole <= position;
    if (!this.#isHole) {
      this.#to = hole;
      return;
    }
    const data = this.#storage.nextData(position);
    this.#to = data > position && data < this.#storage.size() ? data : Number.POSITIVE_INFINITY;
  }
}
