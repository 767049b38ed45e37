/**
 * Counts how often each host cluster is referenced, as QEMU's check does (block/qcow2-refcount.c,
 * calculate_refcounts): the truth that refcounts are only a copy of.
 *
 * What only one thing can own is counted first; then L2 tables, each as often as L1 entries name it; then, reading
 * each L2 table once, what its entries point to, as often as the table itself is referenced.
 */
import { readBitmaps } from '../format/bitmaps.js';
import {
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
} from '../format/entries.js';
import { Autoclear } from '../format/header.js';
import { snapshotTableBytes } from '../format/snapshots.js';
import { hex, TWO_32 } from '../format/units.js';
import { geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import type { ReferenceCounts } from './reference-counts.js';
import { type Problem, ReferenceScan, type Referrer } from './reference-scan.js';
import { readPadded } from './table-reader.js';

/** Bits 0 to 8 of a refcount table entry. */
const REFCOUNT_TABLE_RESERVED = 0x1ff;

interface L1Table extends Referrer {
  readonly entries: number;
}

/**
 * @param onProblem is told of each reference that makes no sense, which then is not or not wholly counted; may throw
 * @throws Qcow2fsError `format` when a table that tells where others are is cut short, `unsupported` when there are
 * more references than can be counted, `host-io`
 */
export function countReferences(image: Image, onProblem: (problem: Problem) => void): ReferenceCounts {
  const scan = new ReferenceScan(image, onProblem);
  const header: Referrer = { name: 'header', offset: 0 };
  scan.refer('header', 0, image.header.clusterSize, header);
  const l1Tables = countL1Tables(scan, image, header);
  countRefcountStructures(scan, image, header);
  const { encryption } = image.extensions;
  if (encryption !== undefined) scan.refer('LUKS header', encryption.offset, encryption.length, header);
  countBitmaps(scan, image, header);
  countL2Tables(scan, image, l1Tables);
  countData(scan, image, l1Tables);
  return scan.counts;
}

/** Counts the snapshot table and all L1 tables. @returns the L1 tables that lie where tables can */
function countL1Tables(scan: ReferenceScan, image: Image, owner: Referrer): L1Table[] {
  const { header, snapshots } = image;
  const sound: L1Table[] = [];
  const active = { name: 'L1 table', offset: header.l1TableOffset, entries: header.l1Size };
  if (scan.refer('L1 table', active.offset, active.entries * 8, owner)) sound.push(active);

  if (header.snapshotCount === 0) return sound;
  const snapshotTable: Referrer = { name: 'snapshot table', offset: header.snapshotsOffset };
  const bytes = snapshotTableBytes(snapshots);
  scan.refer('snapshot table', header.snapshotsOffset, bytes, owner);
  for (const [index, { id, l1TableOffset, l1Size }] of snapshots.entries()) {
    const table = { name: `L1 table of snapshot ${id}`, offset: l1TableOffset, entries: l1Size };
    if (scan.refer('snapshot L1 table', table.offset, table.entries * 8, snapshotTable, index))
      sound.push(table);
  }
  return sound;
}

function countRefcountStructures(scan: ReferenceScan, image: Image, owner: Referrer): void {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = image.header;
  const bytes = refcountTableClusters * clusterSize;
  if (!scan.refer('refcount table', refcountTableOffset, bytes, owner)) return;
  const table: Referrer = { name: 'refcount table', offset: refcountTableOffset };
  scan.forEachEntry(table, bytes / 8, (index, high, low) => {
    if ((low & REFCOUNT_TABLE_RESERVED) !== 0) scan.problem(table, index, 'reserved bits are set');
    else if (scan.refer('refcount block', high * TWO_32 + low, clusterSize, table, index)) {
      scan.charge(clusterSize / 8);
    }
  });
}

/** Bitmaps are counted only where they are valid: else whoever wrote the image did not know of them. */
function countBitmaps(scan: ReferenceScan, image: Image, owner: Referrer): void {
  const { header, extensions, storage } = image;
  const { bitmaps } = extensions;
  if (bitmaps === undefined || (header.autoclearFeatures & Autoclear.bitmaps) === 0n) return;
  if (!scan.refer('bitmap directory', bitmaps.directoryOffset, bitmaps.directorySize, owner)) return;
  const directory: Referrer = { name: 'bitmap directory', offset: bitmaps.directoryOffset };
  const found = readBitmaps(bitmaps, scan.read, storage.path);
  for (const [index, { tableOffset, tableSize }] of found.entries()) {
    if (!scan.refer('bitmap table', tableOffset, tableSize * 8, directory, index)) continue;
    const table: Referrer = { name: 'bitmap table', offset: tableOffset };
    scan.forEachEntry(table, tableSize, (entry, high, low) => {
      const data = entryOffset(high, low);
      if (data !== 0) scan.refer('bitmap data', data, header.clusterSize, table, entry);
    });
  }
}

function countL2Tables(scan: ReferenceScan, { header }: Image, l1Tables: readonly L1Table[]): void {
  for (const l1 of l1Tables) {
    scan.forEachEntry(l1, l1.entries, (index, high, low) => {
      const offset = entryOffset(high, low);
      if (offset !== 0) scan.refer('L2 table', offset, header.clusterSize, l1, index);
    });
  }
}

function countData(scan: ReferenceScan, image: Image, l1Tables: readonly L1Table[]): void {
  const { clusterSize } = image.header;
  const room = Buffer.alloc(clusterSize);
  const done = new Set<number>();
  for (const l1 of l1Tables) {
    scan.forEachEntry(l1, l1.entries, (_index, high, low) => {
      const offset = entryOffset(high, low);
      const cluster = offset / clusterSize;
      if (!Number.isInteger(cluster) || scan.counts.structure(cluster) !== 'L2 table') return;
      const references = scan.counts.count(cluster);
      // Only tables that more than one entry names can come again.
      if (references > 1) {
        if (done.has(cluster)) return;
        done.add(cluster);
      }
      countL2(scan, image, offset, references, room);
    });
  }
}

/** @param room for an L2 table */
function countL2(scan: ReferenceScan, image: Image, offset: number, references: number, room: Buffer): void {
  const { clusterBits, clusterSize, entryBytes, externalData } = geometryOf(image.header);
  const layout = compressedLayout(clusterBits);
  const table: Referrer = { name: 'L2 table', offset };
  scan.charge(clusterSize / entryBytes);
  readPadded(image.storage, room, offset);
  for (let at = 0; at < clusterSize; at += entryBytes) {
    const high = room.readUInt32BE(at);
    const low = room.readUInt32BE(at + 4);
    const entry = at / entryBytes;
    if (isCompressed(high)) {
      if (externalData) {
        scan.problem(table, entry, 'a compressed cluster, which external data cannot have');
        continue;
      }
      const start = compressedOffset(high, low, layout);
      const length = compressedLength(high, low, layout);
      scan.referRange('data cluster', start, length, references, table, entry);
    } else if (!externalData) {
      const start = entryOffset(high, low);
      if (start === 0) continue;
      if (start % clusterSize === 0) {
        scan.referRange('data cluster', start, clusterSize, references, table, entry);
      } else scan.problem(table, entry, `the data cluster at ${hex(start)} starts inside a cluster`);
    }
  }
}
