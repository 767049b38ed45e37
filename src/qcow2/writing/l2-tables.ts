/** Gives the active disk L2 tables of its own, so that they may be changed. Needs the exclusive lock. */
import { Qcow2fsError } from '../../errors.js';
import type { Storage } from '../../storage.js';
import { COPIED_HIGH, entryOffset, isCompressed } from '../format/entries.js';
import { hex } from '../format/units.js';
import type { Geometry } from '../geometry.js';
import type { MetadataCache } from '../metadata.js';
import type { Allocator } from './allocator.js';
import type { Refcounts } from './refcounts.js';

export class L2Tables {
  readonly #image: Storage;
  readonly #geometry: Geometry;
  readonly #metadata: MetadataCache;
  readonly #allocator: Allocator;
  readonly #refcounts: Refcounts;

  constructor(
    image: Storage,
    geometry: Geometry,
    metadata: MetadataCache,
    allocator: Allocator,
    refcounts: Refcounts,
  ) {
    this.#image = image;
    this.#geometry = geometry;
    this.#metadata = metadata;
    this.#allocator = allocator;
    this.#refcounts = refcounts;
  }

  /**
   * Makes or copies the table that maps guest offset `at`, where it is missing or shared with a snapshot.
   * @returns the slot of the slice that maps `at`
   */
  own(at: number): number {
    const index = Math.floor(at / this.#geometry.tableCoverage);
    const table = this.#metadata.tableOffset(index);
    if (table === 0) {
      this.#metadata.setTable(index, this.#allocator.allocateTable());
    } else if (!this.#metadata.ownsTable(index)) {
      this.#metadata.setTable(index, this.#copy(table));
      this.#metadata.forgetSlices(index);
      this.#allocator.releaseTable(table, this.#geometry.clusterSize);
    }
    return this.#metadata.fillToChange(Math.floor(at / this.#geometry.sliceCoverage));
  }

  /**
   * A copy of a shared table, in which those clusters are the disk's own that nothing else refers to. Slices of a
   * shared table never differ from the file, so the file has all there is to copy.
   */
  #copy(table: number): number {
    const { clusterSize, entryBytes, externalData } = this.#geometry;
    const bytes = Buffer.alloc(clusterSize);
    if (this.#image.read(bytes, 0, clusterSize, table) < clusterSize) {
      throw new Qcow2fsError(
        'corrupt',
        `${this.#image.path}: the L2 table at ${hex(table)} lies outside the file`,
      );
    }
    for (let at = 0; at < clusterSize && !externalData; at += entryBytes) {
      const high = bytes.readUInt32BE(at);
      const offset = entryOffset(high, bytes.readUInt32BE(at + 4));
      if (isCompressed(high) || offset === 0) continue;
      const own = this.#refcounts.get(Math.floor(offset / clusterSize)) === 1;
      bytes.writeUInt32BE((own ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0, at);
    }
    return this.#allocator.allocateTable(bytes);
  }
}
