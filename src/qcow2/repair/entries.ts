/**
 * Mends L1 and L2 entries that say nothing else when they are sound: reserved bits go, and flags that a compressed
 * cluster cannot have; zeros that lie nowhere lie nowhere. Where a subcluster is said to be both data and zeros, it is
 * zeros from now on: nobody could read it, nor its neighbours.
 *
 * An entry that changes refers to fewer clusters than before, or to the same ones, so it may change at any time.
 */

import { Inflater } from '../check/data.js';
import { L2_RESERVED_HIGH, L2_RESERVED_LOW } from '../check/l2-checker.js';
import type { References } from '../check/references.js';
import { flaggedOffset, isL2Table, L1_RESERVED_HIGH, L1_RESERVED_LOW } from '../check/references.js';
import { readPadded } from '../check/table-reader.js';
import { entryOffset, isCompressed, isZero, ZERO_LOW } from '../format/entries.js';
import { type Geometry, geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import { writeChanges } from './changed-sectors.js';

const COPIED_HIGH = 0x8000_0000;

/**
 * Mends all tables, those of snapshots too, and syncs when there was anything to mend.
 * @throws Qcow2fsError `host-io`
 */
export function fixEntries(image: Image, { counts, l1Tables }: References): void {
  const { storage } = image;
  const geometry = geometryOf(image.header);
  const { clusterSize } = geometry;
  counts.beginPass();
  const inflater = new Inflater(image);
  let changed = false;
  for (const { offset: l1Offset, entries } of l1Tables) {
    const before = Buffer.alloc(entries * 8);
    readPadded(storage, before, l1Offset);
    const after = Buffer.from(before);
    for (let at = 0; at < after.length; at += 8) {
      mask(after, at, L1_RESERVED_HIGH, L1_RESERVED_LOW);
      const offset = entryOffset(after.readUInt32BE(at), after.readUInt32BE(at + 4));
      if (offset === 0) after.fill(0, at, at + 8);
      if (offset === 0 || !isL2Table(counts, offset, clusterSize) || !counts.visit(offset / clusterSize))
        continue;
      if (fixL2(image, geometry, inflater, offset)) changed = true;
    }
    if (writeChanges(storage, before, after, l1Offset)) changed = true;
  }
  if (changed) storage.sync();
}

function fixL2({ storage }: Image, geometry: Geometry, inflater: Inflater, offset: number): boolean {
  const { clusterSize, entryBytes } = geometry;
  const before = Buffer.alloc(clusterSize);
  readPadded(storage, before, offset);
  const after = Buffer.from(before);
  for (let at = 0; at < clusterSize; at += entryBytes) {
    if (isCompressed(after.readUInt32BE(at))) fixCompressed(after, at, geometry, inflater);
    else fixStandard(after, at, geometry);
  }
  return writeChanges(storage, before, after, offset);
}

/** A normal cluster's entry with one bit flipped looks compressed, too: such a one stays, for it tells where the data are. */
function fixCompressed(
  table: Buffer,
  at: number,
  { extended, externalData }: Geometry,
  inflater: Inflater,
): void {
  if (externalData || !inflater.inflates(table.readUInt32BE(at), table.readUInt32BE(at + 4))) return;
  mask(table, at, COPIED_HIGH, 0);
  if (extended) table.fill(0, at + 8, at + 16);
}

function fixStandard(
  table: Buffer,
  at: number,
  { extended, externalData, clusterSize, zeroFlag }: Geometry,
): void {
  mask(table, at, L2_RESERVED_HIGH, L2_RESERVED_LOW);
  const low = table.readUInt32BE(at + 4);
  const high = table.readUInt32BE(at);
  const offset = entryOffset(high, low);
  if (extended && flaggedOffset(high, low, externalData) !== undefined) {
    const zeros = table.readUInt32BE(at + 8);
    table.writeUInt32BE((table.readUInt32BE(at + 12) & ~zeros) >>> 0, at + 12);
  }
  if (offset % clusterSize === 0) return;
  const holdsData = extended ? table.readUInt32BE(at + 12) !== 0 : !isZero(low);
  if (holdsData || !zeroFlag) return;
  table.writeUInt32BE(0, at);
  table.writeUInt32BE(extended ? 0 : ZERO_LOW, at + 4);
}

/** Clears bits of an entry. */
function mask(table: Buffer, at: number, high: number, low: number): void {
  table.writeUInt32BE((table.readUInt32BE(at) & ~high) >>> 0, at);
  table.writeUInt32BE((table.readUInt32BE(at + 4) & ~low) >>> 0, at + 4);
}
