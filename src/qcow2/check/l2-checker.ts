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
import { hex, swapWords, TWO_32 } from '../format/units.js';
import { type Geometry, geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import { MAX_HOST_OFFSET } from '../mapping.js';
import type { FindingKind, Place } from './finding.js';
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
  readonly #words: Uint32Array;
  readonly #table: Buffer;
  /** The table that is looked at, and how often it is referenced, which each of its entries inherits. */
  #place: Place = { name: 'L2 table', offset: 0 };
  #references = 0;
  /** The entry that is looked at. */
  #index = 0;
  #high = 0;
  #low = 0;
  /** Bitmaps of the subclusters, with extended L2 entries. */
  #zeros = 0;
  #allocs = 0;
  /** Host offset after the last data cluster of the table. */
  #next = 0;

  /** @param clusters counted as the tables of the active disk are looked at */
  constructor(scan: ReferenceScan, image: Image, clusters: ClusterStatistics) {
    this.#scan = scan;
    this.#image = image;
    this.#geometry = geometryOf(image.header);
    this.#layout = compressedLayout(this.#geometry.clusterBits);
    this.#clusters = clusters;
    this.#words = new Uint32Array(this.#geometry.clusterSize / 4);
    this.#table = Buffer.from(this.#words.buffer);
  }

  check(place: Place, references: number): void {
    const { clusterSize, entryBytes, extended } = this.#geometry;
    const words = this.#words;
    const step = entryBytes / 4;
    this.#scan.charge(clusterSize / entryBytes);
    this.#place = place;
    this.#references = references;
    this.#next = 0;
    readPadded(this.#image.storage, this.#table, place.offset);
    swapWords(this.#table);
    for (let at = 0; at < words.length; at += step) {
      this.#high = words[at]!;
      this.#low = words[at + 1]!;
      this.#zeros = extended ? words[at + 2]! : 0;
      this.#allocs = extended ? words[at + 3]! : 0;
      if ((this.#high | this.#low | this.#allocs) === 0) continue;
      this.#index = at / step;
      if (isCompressed(this.#high)) this.#checkCompressed();
      else {
        const plain = this.#countPlain(at);
        if (plain > 0) at += step * (plain - 1);
        else this.#checkStandard();
      }
    }
  }

  #checkCompressed(): void {
    if (isCopied(this.#high)) this.#report('compressed-flag', 'a compressed cluster has the COPIED flag');
    if ((this.#zeros | this.#allocs) !== 0) {
      this.#report('compressed-flag', 'a compressed cluster has an allocation bitmap');
    }
    if (this.#geometry.externalData) {
      this.#report('compressed-external', 'a compressed cluster, which external data cannot have');
      return;
    }
    if (this.#place.guest !== undefined) {
      this.#clusters.allocated++;
      this.#clusters.compressed++;
      this.#clusters.fragmented++;
    }
    const length = compressedLength(this.#high, this.#low, this.#layout);
    this.#count(compressedOffset(this.#high, this.#low, this.#layout), length);
  }

  /**
   * Counts data clusters that follow each other in the file, the first one of the entry at word `at`, as far as nothing is
   * wrong with them: a fraction of the time that one by one takes.
   * @returns how many; the next one is to be looked at closely
   */
  #countPlain(at: number): number {
    const { extended, externalData, clusterSize } = this.#geometry;
    const words = this.#words;
    const high = this.#high;
    const low = this.#low;
    if (extended || externalData || (high & L2_RESERVED_HIGH) !== 0 || low % clusterSize !== 0) return 0;
    const start = entryOffset(high, low);
    if (start === 0 || start > MAX_HOST_OFFSET) return 0;
    const entries = Math.min((words.length - at) / 2, (TWO_32 - low) / clusterSize);
    const room = this.#scan.lengthInside(start, entries * clusterSize) / clusterSize;
    const first = start / clusterSize;
    let counted = 0;
    while (
      counted < room &&
      words[at + 2 * counted] === high &&
      words[at + 2 * counted + 1] === low + counted * clusterSize &&
      this.#scan.counts.addFreshData(first + counted, this.#references)
    ) {
      counted++;
    }
    if (this.#place.guest === undefined || counted === 0) return counted;
    this.#clusters.allocated += counted;
    if (this.#next !== 0 && start !== this.#next) this.#clusters.fragmented++;
    this.#next = start + counted * clusterSize;
    return counted;
  }

  #checkStandard(): void {
    const { extended, externalData, zeroFlag, clusterSize } = this.#geometry;
    const high = this.#high;
    const low = this.#low;
    if ((high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0) {
      this.#report('reserved-bits', 'reserved bits are set');
    }
    const isZeroCluster = !extended && isZero(low);
    if (isZeroCluster && !zeroFlag) this.#report('zero-flag', 'a zero cluster in a version 2 image');
    const start = entryOffset(high, low);
    if (start === 0 && !(externalData && isCopied(high))) {
      const what = 'subclusters are allocated, but no cluster is';
      if (this.#allocs !== 0) this.#report('subclusters-lost', what);
      return;
    }
    if ((this.#zeros & this.#allocs) !== 0) {
      this.#report('subcluster-bitmap', 'a subcluster is marked both allocated and zero');
    }
    if (start % clusterSize !== 0) {
      // Version 2 has no zero clusters: what the entry means is as unknown as where the bytes are.
      const holdsData = extended ? this.#allocs !== 0 : !isZeroCluster || !zeroFlag;
      this.#reportMisplaced(start, holdsData);
    }
    if (externalData) this.#checkPlaceInDataFile(start);
    else this.#count(start, clusterSize);
    if (this.#place.guest === undefined) return;
    this.#clusters.allocated++;
    if (this.#next !== 0 && start !== this.#next) this.#clusters.fragmented++;
    this.#next = start + clusterSize;
  }

  #reportMisplaced(start: number, holdsData: boolean): void {
    const what = holdsData ? 'data' : 'zero';
    const kind = holdsData ? 'misplaced-data' : 'misplaced-zeros';
    this.#report(kind, `the ${what} cluster at ${hex(start)} starts inside a cluster`);
  }

  #checkPlaceInDataFile(start: number): void {
    const { guest } = this.#place;
    if (guest === undefined || start === guest.start + this.#index * guest.step) return;
    this.#report(
      'data-file-offset',
      `the cluster at ${hex(start)} of the data file is not at its guest offset`,
    );
  }

  #count(start: number, length: number): void {
    if (start > MAX_HOST_OFFSET) {
      this.#report('misplaced-data', `the data at ${hex(start)} lie beyond what a file can have`);
      return;
    }
    if (this.#scan.isOutside(start, length)) {
      const inside = this.#scan.lengthInside(start, length);
      const what = inside > 0 ? 'reach beyond the end of the file' : 'lie outside the file';
      this.#report('outside-file', `the data at ${hex(start)} ${what}`);
      this.#scan.noteOutside(start, length, this.#references);
      // What is there may be all that there was: compressed data may be said to be longer than they are.
      if (inside > 0) this.#scan.countRange('data cluster', start, inside, this.#references);
      return;
    }
    const clash = this.#scan.countRange('data cluster', start, length, this.#references);
    if (clash !== undefined) this.#report('overlap', `the data cluster at ${hex(start)} ${clash}`);
  }

  #report(kind: FindingKind, what: string): void {
    this.#scan.report(kind, this.#place, what, { entry: this.#index });
  }
}
