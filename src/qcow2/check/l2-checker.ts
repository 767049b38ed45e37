/** Looks at L2 tables entry by entry (specification: "L2 table entry", "Extended L2 Entries") and counts what they name. */
import {
  type CompressedLayout,
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
  isCopied,
  isZero,
} from '../format/entries.js';
import { hex } from '../format/units.js';
import { type Geometry, geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import type { Place } from './finding.js';
import type { ReferenceScan } from './reference-scan.js';
import type { ClusterStatistics } from './references.js';
import { readPadded } from './table-reader.js';

/** Bits 1 to 8 and 56 to 61 of a standard entry. */
export const L2_RESERVED_HIGH = 0x3f00_0000;
export const L2_RESERVED_LOW = 0x1fe;

export class L2Checker {
  readonly #scan: ReferenceScan;
  readonly #image: Image;
  readonly #geometry: Geometry;
  readonly #layout: CompressedLayout;
  readonly #clusters: ClusterStatistics;
  readonly #table: Buffer;
  /** Host offset after the last data cluster of the table. */
  #next = 0;

  /** @param clusters counted as the tables of the active disk are looked at */
  constructor(scan: ReferenceScan, image: Image, clusters: ClusterStatistics) {
    this.#scan = scan;
    this.#image = image;
    this.#geometry = geometryOf(image.header);
    this.#layout = compressedLayout(this.#geometry.clusterBits);
    this.#clusters = clusters;
    this.#table = Buffer.alloc(this.#geometry.clusterSize);
  }

  /** @param references to the table, which each of its entries inherits */
  check(place: Place, references: number): void {
    const { clusterSize, entryBytes, extended } = this.#geometry;
    const table = this.#table;
    this.#scan.charge(clusterSize / entryBytes);
    this.#next = 0;
    readPadded(this.#image.storage, table, place.offset);
    for (let at = 0; at < clusterSize; at += entryBytes) {
      const high = table.readUInt32BE(at);
      const low = table.readUInt32BE(at + 4);
      const zeros = extended ? table.readUInt32BE(at + 8) : 0;
      const allocs = extended ? table.readUInt32BE(at + 12) : 0;
      if ((high | low | allocs) === 0) continue;
      const entry = at / entryBytes;
      if (isCompressed(high)) this.#checkCompressed(place, entry, high, low, zeros, allocs, references);
      else this.#checkStandard(place, entry, high, low, zeros, allocs, references);
    }
  }

  #checkCompressed(
    place: Place,
    entry: number,
    high: number,
    low: number,
    zeros: number,
    allocs: number,
    references: number,
  ): void {
    const { report } = this.#scan;
    if (isCopied(high))
      report('compressed-flag', place, 'a compressed cluster has the COPIED flag', { entry });
    if ((zeros | allocs) !== 0) {
      report('compressed-flag', place, 'a compressed cluster has an allocation bitmap', { entry });
    }
    if (this.#geometry.externalData) {
      report('compressed-external', place, 'a compressed cluster, which external data cannot have', {
        entry,
      });
      return;
    }
    if (place.guest !== undefined) {
      this.#clusters.allocated++;
      this.#clusters.compressed++;
      this.#clusters.fragmented++;
    }
    const start = compressedOffset(high, low, this.#layout);
    this.#count(place, entry, start, compressedLength(high, low, this.#layout), references);
  }

  #checkStandard(
    place: Place,
    entry: number,
    high: number,
    low: number,
    zeros: number,
    allocs: number,
    references: number,
  ): void {
    const { report } = this.#scan;
    const { extended, externalData, zeroFlag, clusterSize } = this.#geometry;
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0) {
      report('reserved-bits', place, 'reserved bits are set', { entry });
    }
    const isZeroCluster = !extended && isZero(low);
    if (isZeroCluster && !zeroFlag)
      report('zero-flag', place, 'a zero cluster in a version 2 image', { entry });
    const start = entryOffset(high, low);
    const isAllocated = start !== 0 || (externalData && isCopied(high));
    if (!isAllocated) {
      if (allocs !== 0)
        report('subclusters-lost', place, 'subclusters are allocated, but no cluster is', { entry });
      return;
    }
    if ((zeros & allocs) !== 0) {
      report('subcluster-bitmap', place, 'a subcluster is marked both allocated and zero', { entry });
    }
    const holdsData = extended ? allocs !== 0 : !isZeroCluster;
    if (start % clusterSize !== 0) {
      const what = holdsData ? 'data' : 'zero';
      const kind = holdsData ? 'misplaced-data' : 'misplaced-zeros';
      report(kind, place, `the ${what} cluster at ${hex(start)} starts inside a cluster`, { entry });
    }
    if (place.guest !== undefined) this.#noteAllocated(start);
    if (!externalData) this.#count(place, entry, start, clusterSize, references);
    else if (place.guest !== undefined && start !== place.guest.start + entry * clusterSize) {
      report(
        'data-file-offset',
        place,
        `the cluster at ${hex(start)} of the data file is not at its guest offset`,
        { entry },
      );
    }
  }

  #noteAllocated(start: number): void {
    this.#clusters.allocated++;
    if (this.#next !== 0 && start !== this.#next) this.#clusters.fragmented++;
    this.#next = start + this.#geometry.clusterSize;
  }

  #count(place: Place, entry: number, start: number, length: number, references: number): void {
    if (this.#scan.isOutside(start, length)) {
      this.#scan.report('outside-file', place, `the data at ${hex(start)} lie outside the file`, { entry });
      return;
    }
    const clash = this.#scan.countRange('data cluster', start, length, references);
    if (clash !== undefined)
      this.#scan.report('overlap', place, `the data cluster at ${hex(start)} ${clash}`, { entry });
  }
}
