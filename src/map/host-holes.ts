/**
 * Holes of a host file below clusters that were set aside and not written: such runs have a place and are zeros all the
 * same. As QEMU asks the protocol layer (block/io.c, `bdrv_co_block_status` with BDRV_BLOCK_RECURSE).
 */
import type { Storage } from '../storage.js';
import type { MapExtent } from './extents.js';

export class HostHoles {
  readonly #storage: Storage;
  /** The part of the file that was asked for last: a hole or not, as a whole. */
  #from = 0;
  #to = 0;
  #isHole = false;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** @param extent data with a place in the file */
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
