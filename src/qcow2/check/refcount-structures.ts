/**
 * The refcount table and its blocks (specification: "Host cluster management"): which of them lie where they can. Comes
 * when all else is counted, for what clashes with one of these is not their fault.
 */
import { hex, TWO_32 } from '../format/units.js';
import type { Image } from '../image.js';
import type { Place } from './finding.js';
import type { ReferenceScan } from './reference-scan.js';

/** Bits 0 to 8 of a refcount table entry. */
const RESERVED_LOW = 0x1ff;

export interface RefcountStructures {
  /** The table lies in the file, alone. */
  readonly isTableSound: boolean;
  /** Host offsets of the sound blocks, by index in the table. */
  readonly blocks: ReadonlyMap<number, number>;
  /** Entries that name a block that is not sound. */
  readonly broken: number;
}

export function findRefcountStructures(scan: ReferenceScan, image: Image, owner: Place): RefcountStructures {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = image.header;
  const bytes = refcountTableClusters * clusterSize;
  const isTableSound = claim(scan, 'refcount table', refcountTableOffset, bytes, clusterSize, owner);
  const table: Place = { name: 'refcount table', offset: refcountTableOffset };
  const blocks = new Map<number, number>();
  let broken = 0;
  scan.forEachEntry(table, bytes / 8, (index, high, low) => {
    const offset = high * TWO_32 + low;
    if ((low & RESERVED_LOW) !== 0) {
      scan.report('refcount-structure', table, 'reserved bits are set', { entry: index });
      broken++;
    } else if (claim(scan, 'refcount block', offset, clusterSize, clusterSize, table, index)) {
      blocks.set(index, offset);
      scan.charge(clusterSize / 8);
    } else broken++;
  });
  return { isTableSound, blocks, broken };
}

/** Counts the structure if it is alone where it is, else reports why not. */
function claim(
  scan: ReferenceScan,
  structure: 'refcount table' | 'refcount block',
  offset: number,
  length: number,
  clusterSize: number,
  owner: Place,
  entry?: number,
): boolean {
  const report = (what: string): false => {
    const place = `the ${structure} at ${hex(offset)}`;
    scan.report('refcount-structure', owner, `${place} ${what}`, { entry: entry ?? null });
    return false;
  };
  if (offset % clusterSize !== 0) return report('starts inside a cluster');
  if (scan.isOutside(offset, length)) return report('lies outside the file');
  const first = offset / clusterSize;
  const end = first + length / clusterSize;
  for (let cluster = first; cluster < end; cluster++) {
    const present = scan.counts.structure(cluster);
    if (present !== 'nothing') return report(`overlaps the ${present} at ${hex(cluster * clusterSize)}`);
  }
  for (let cluster = first; cluster < end; cluster++) scan.counts.add(cluster, 1, structure);
  return true;
}
