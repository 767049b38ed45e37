/**
 * Counts how often each host cluster is referenced: the truth that refcounts are only a copy of. As QEMU's check does
 * (block/qcow2-refcount.c, calculate_refcounts), but the structures of the refcounts come last: what they clash with is
 * right, for they can be made anew.
 *
 * L2 tables are counted as often as L1 entries name them; then, reading each L2 table once, what its entries point to, as
 * often as the table itself is referenced.
 */
import { shortName } from '../../printable.js';
import type { Progress } from '../../progress.js';
import { entryOffset, isCompressed, isCopied } from '../format/entries.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import { snapshotTableBytes } from '../format/snapshots.js';
import { type Geometry, geometryOf } from '../geometry.js';
import { type Image, l1EntriesFor } from '../image.js';
import { countBitmaps } from './bitmaps.js';
import type { Place, Report } from './finding.js';
import { L2Checker } from './l2-checker.js';
import { checkLuksHeader } from './luks-header.js';
import { findRefcountStructures, type RefcountStructures } from './refcount-structures.js';
import type { ReferenceCounts } from './reference-counts.js';
import { ReferenceScan } from './reference-scan.js';
import { StoredRefcounts } from './stored-refcounts.js';
import { readPadded } from './table-reader.js';

/** Specification: "L1 table entry": bits 0 to 8 and 56 to 62. */
export const L1_RESERVED_HIGH = 0x7f00_0000;
export const L1_RESERVED_LOW = 0x1ff;

export const PHASE_TABLES = 0;
export const PHASE_CLUSTERS = 1;

export interface References {
  readonly counts: ReferenceCounts;
  /** False where a table is lost, or the file was cut off: what is in use is not known then. */
  readonly isComplete: boolean;
  readonly refcounts: RefcountStructures;
  /** References by cluster, for those a little beyond the end of the file. */
  readonly outside: ReadonlyMap<number, number>;
  readonly clusters: ClusterStatistics;
  /** Those of which what there is may be believed, the active one first: no two share a cluster. */
  readonly l1Tables: readonly L1Table[];
}

/** Of the active disk. */
export interface ClusterStatistics {
  allocated: number;
  compressed: number;
  /** Clusters that do not follow the one before in the file, within an L2 table; all compressed ones. */
  fragmented: number;
}

/**
 * Entries that point beyond the end of the file may be garbage. But where the refcounts know of a cluster there, it was
 * cut off: whoever finishes the copy has it back, and until then nobody may count anew.
 */
function isCutOff(image: Image, references: References): boolean {
  return [...references.outside.keys()].some(knownAsUsed(image, references));
}

/** Whether the refcounts know of a cluster, or cannot tell. */
function knownAsUsed(image: Image, references: References): (cluster: number) => boolean {
  const { isTableSound, broken } = references.refcounts;
  const knowsAll = isTableSound && broken === 0;
  const stored = new StoredRefcounts(image, references);
  return (cluster) => !knowsAll || stored.get(cluster) > 0;
}

export interface L1Table extends Place {
  readonly entries: number;
  readonly isActive: boolean;
}

/**
 * @param report is told of all that makes no sense; may throw
 * @throws Qcow2fsError `unsupported` when there are more references than can be counted, `host-io`; Cancelled
 */
export function countReferences(image: Image, report: Report, progress?: Progress): References {
  return new ReferenceCounter(image, report, progress).count();
}

class ReferenceCounter {
  readonly #image: Image;
  readonly #geometry: Geometry;
  readonly #scan: ReferenceScan;
  readonly #progress: Progress | undefined;
  readonly #clusters: ClusterStatistics = { allocated: 0, compressed: 0, fragmented: 0 };
  #isComplete: boolean;
  #tables = 0;

  constructor(image: Image, report: Report, progress: Progress | undefined) {
    this.#image = image;
    this.#geometry = geometryOf(image.header);
    this.#progress = progress;
    this.#scan = new ReferenceScan(image, report, progress);
    this.#isComplete = image.snapshots.length === image.header.snapshotCount;
  }

  count(): References {
    const { header, extensions } = this.#image;
    const owner: Place = { name: 'header', offset: 0 };
    this.#scan.refer('header', 0, header.clusterSize, owner);
    const l1Tables = this.#countL1Tables(owner);
    this.#progress?.begin(
      PHASE_TABLES,
      l1Tables.reduce((sum, { entries }) => sum + entries, 0),
    );
    const { encryption } = extensions;
    if (encryption) this.#note(this.#scan.refer('LUKS header', encryption.offset, encryption.length, owner));
    this.#note(checkLuksHeader(this.#image, this.#scan.report));
    this.#note(countBitmaps(this.#scan, this.#image, owner));
    for (const l1 of l1Tables) this.#countL2Tables(l1);
    const { clusterSize, entryBytes } = this.#geometry;
    this.#progress?.begin(PHASE_CLUSTERS, this.#tables * (clusterSize / entryBytes));
    const checker = new L2Checker(this.#scan, this.#image, this.#clusters);
    for (const l1 of l1Tables) this.#countData(l1, checker);
    const references: References = {
      counts: this.#scan.counts,
      outside: this.#scan.outside,
      isComplete: this.#isComplete,
      refcounts: findRefcountStructures(this.#scan, this.#image, owner),
      clusters: this.#clusters,
      l1Tables,
    };
    const isKnown = !isCutOff(this.#image, references) && !this.#hidesSnapshots(references);
    return { ...references, isComplete: this.#isComplete && isKnown };
  }

  /**
   * A header that counts no snapshots has no place for them either. One that has, of a cluster that is in use for nothing
   * else, has lost their number.
   */
  #hidesSnapshots(references: References): boolean {
    const { header } = this.#image;
    const cluster = header.snapshotsOffset / header.clusterSize;
    if (header.snapshotCount > 0 || cluster === 0 || !Number.isInteger(cluster)) return false;
    if (references.counts.count(cluster) > 0 || !knownAsUsed(this.#image, references)(cluster)) return false;
    const place: Place = { name: 'snapshot table', offset: header.snapshotsOffset };
    this.#scan.report('snapshot-table', place, 'the header counts no snapshots, but has a place for them');
    return true;
  }

  #note(isSound: boolean): void {
    if (!isSound) this.#isComplete = false;
  }

  /** Counts the snapshot table and all L1 tables. @returns the L1 tables of which what there is may be believed */
  #countL1Tables(owner: Place): L1Table[] {
    const { header, snapshots } = this.#image;
    const { tableCoverage } = this.#geometry;
    const usable: L1Table[] = [];
    const add = (table: L1Table, state: 'sound' | 'cut off' | 'lost'): void => {
      this.#note(state === 'sound');
      if (state !== 'lost') usable.push(table);
    };
    const active: L1Table = {
      name: 'L1 table',
      offset: header.l1TableOffset,
      entries: header.l1Size,
      isActive: true,
      guest: { start: 0, step: tableCoverage },
    };
    add(active, this.#scan.referTable('L1 table', active.offset, active.entries * 8, owner));

    const bytes = snapshotTableBytes(snapshots);
    this.#note(this.#scan.refer('snapshot table', header.snapshotsOffset, bytes, owner));
    const table: Place = { name: 'snapshot table', offset: header.snapshotsOffset };
    for (const [index, { id, l1TableOffset, l1Size, diskSize, tellsDiskSize }] of snapshots.entries()) {
      const l1 = { name: `L1 table of snapshot ${shortName(id)}`, offset: l1TableOffset, entries: l1Size };
      if (l1Size * 8 > MAX_L1_BYTES) {
        this.#scan.report('lost-table', table, `the ${l1.name} takes ${l1Size * 8} bytes`, { entry: index });
        this.#isComplete = false;
      } else {
        const state = this.#scan.referTable('snapshot L1 table', l1.offset, l1Size * 8, table, index);
        add({ ...l1, isActive: false }, state);
        // A table that was once longer refers to more.
        if (tellsDiskSize) this.#note(l1Size >= l1EntriesFor(header, diskSize));
      }
    }
    return usable;
  }

  #countL2Tables(l1: L1Table): void {
    this.#scan.forEachEntry(l1, l1.entries, (index, high, low) => {
      if ((high & L1_RESERVED_HIGH) !== 0 || (low & L1_RESERVED_LOW) !== 0) {
        this.#scan.report('reserved-bits', l1, 'reserved bits are set', { entry: index });
      }
      const offset = entryOffset(high, low);
      if (offset === 0) {
        // QEMU's check takes it for a table on the header.
        if (isCopied(high))
          this.#scan.report('reserved-bits', l1, 'COPIED is set without a table', { entry: index });
        return;
      }
      this.#tables++;
      const state = this.#scan.referTable('L2 table', offset, this.#geometry.clusterSize, l1, index);
      this.#note(state === 'sound');
    });
  }

  #countData(l1: L1Table, checker: L2Checker): void {
    const { clusterSize, tableCoverage } = this.#geometry;
    this.#scan.forEachEntry(l1, l1.entries, (index, high, low) => {
      const offset = entryOffset(high, low);
      if (offset === 0 || offset % clusterSize !== 0) return;
      const references = this.#scan.counts.takeTable(offset / clusterSize);
      if (references === 0) return;
      const guest = l1.isActive ? { start: index * tableCoverage, step: clusterSize } : undefined;
      checker.check({ name: 'L2 table', offset, guest }, references);
    });
  }
}

/**
 * Visits the sound L2 tables that the active L1 table names, each once.
 * @param visit gets the table's content, which it may not keep, and the L1 index of its first name
 */
export function forEachActiveL2(
  image: Image,
  counts: ReferenceCounts,
  visit: (offset: number, table: Buffer, l1Index: number) => void,
): void {
  const { header, storage } = image;
  const { clusterSize } = header;
  const table = Buffer.alloc(clusterSize);
  const l1 = Buffer.alloc(header.l1Size * 8);
  readPadded(storage, l1, header.l1TableOffset);
  counts.beginPass();
  for (let at = 0; at < l1.length; at += 8) {
    const offset = entryOffset(l1.readUInt32BE(at), l1.readUInt32BE(at + 4));
    if (offset === 0 || !isL2Table(counts, offset, clusterSize) || !counts.visit(offset / clusterSize))
      continue;
    readPadded(storage, table, offset);
    visit(offset, table, at / 8);
  }
}

export function isL2Table(counts: ReferenceCounts, offset: number, clusterSize: number): boolean {
  return offset % clusterSize === 0 && counts.structure(offset / clusterSize) === 'L2 table';
}

/** The host offset of a standard entry's cluster where it has one, for its COPIED flag to tell of; else undefined. */
export function flaggedOffset(high: number, low: number, externalData: boolean): number | undefined {
  if (isCompressed(high)) return undefined;
  const offset = entryOffset(high, low);
  return offset !== 0 || (externalData && isCopied(high)) ? offset : undefined;
}
