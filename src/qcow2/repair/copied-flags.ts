/**
 * The COPIED flags of the active L1 and L2 tables: set exactly where the cluster has one reference, so that it may be
 * written in place (specification: "L1 table entry", "L2 table entry", bit 63). Those of snapshots mean nothing.
 */
import { entryOffset, isCompressed, isCopied } from '../format/entries.js';
import { type Geometry, geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import type { ReferenceCounts } from './reference-counts.js';
import { forEachEntry, readPadded, writeChanges } from './table-reader.js';

/** In the first byte of an entry. */
const COPIED = 0x80;

/**
 * Mends the flags, and syncs when any were wrong.
 * @param counts of an image in which counting them found no problem
 * @throws Qcow2fsError `host-io`
 */
export function fixCopiedFlags(image: Image, counts: ReferenceCounts): void {
  const { storage, header } = image;
  const geometry = geometryOf(header);
  const { clusterSize } = geometry;
  const before = Buffer.alloc(clusterSize);
  const after = Buffer.alloc(clusterSize);
  const done = new Set<number>();
  let changed = false;
  forEachEntry(storage, header.l1TableOffset, header.l1Size, (_index, high, low) => {
    const offset = entryOffset(high, low);
    if (offset === 0) return;
    // Only tables that more than one entry names can come again.
    if (counts.count(offset / clusterSize) > 1) {
      if (done.has(offset)) return;
      done.add(offset);
    }
    readPadded(storage, before, offset);
    before.copy(after);
    fixL2(after, geometry, counts);
    if (writeChanges(storage, before, after, offset)) changed = true;
  });
  const l1Before = Buffer.alloc(header.l1Size * 8);
  readPadded(storage, l1Before, header.l1TableOffset);
  const l1After = Buffer.from(l1Before);
  for (let at = 0; at < l1After.length; at += 8) {
    const offset = entryOffset(l1After.readUInt32BE(at), l1After.readUInt32BE(at + 4));
    setCopied(l1After, at, offset !== 0 && counts.count(offset / clusterSize) === 1);
  }
  if (writeChanges(storage, l1Before, l1After, header.l1TableOffset)) changed = true;
  if (changed) storage.sync();
}

function fixL2(table: Buffer, geometry: Geometry, counts: ReferenceCounts): void {
  const { clusterSize, entryBytes, externalData } = geometry;
  for (let at = 0; at < clusterSize; at += entryBytes) {
    const high = table.readUInt32BE(at);
    const offset = entryOffset(high, table.readUInt32BE(at + 4));
    if (isCompressed(high)) setCopied(table, at, false);
    // External data belongs to nobody else; at offset 0 the flag itself tells whether there is any.
    else if (externalData) setCopied(table, at, offset !== 0 || isCopied(high));
    else setCopied(table, at, offset !== 0 && counts.count(offset / clusterSize) === 1);
  }
}

function setCopied(table: Buffer, at: number, copied: boolean): void {
  table[at] = copied ? table[at]! | COPIED : table[at]! & ~COPIED;
}
