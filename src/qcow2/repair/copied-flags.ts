/**
 * The COPIED flags of the active L1 and L2 tables: set exactly where the cluster has one reference, so that it may be
 * written in place (specification: "L1 table entry", "L2 table entry", bit 63). Those of snapshots mean nothing.
 */
import type { ReferenceCounts } from '../check/reference-counts.js';
import { flaggedOffset, forEachActiveL2, isL2Table } from '../check/references.js';
import { readPadded } from '../check/table-reader.js';
import { entryOffset, isCompressed } from '../format/entries.js';
import { type Geometry, geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import { writeChanges } from './changed-sectors.js';

/** In the first byte of an entry. */
const COPIED = 0x80;

/**
 * Mends the flags, and syncs when any were wrong.
 * @param counts what the refcounts in the file are by now
 * @param extent `all`; `standard` leaves alone what looks compressed, of which entries.ts knows more; `missing` sets
 * flags, and clears none
 * @throws Qcow2fsError `host-io`
 */
export function fixCopiedFlags(
  image: Image,
  counts: ReferenceCounts,
  extent: 'all' | 'standard' | 'missing' = 'all',
): void {
  const { storage, header } = image;
  const geometry = geometryOf(header);
  const { clusterSize } = geometry;
  const after = Buffer.alloc(clusterSize);
  let changed = false;
  forEachActiveL2(image, counts, (offset, before) => {
    before.copy(after);
    fixL2(after, geometry, counts, extent === 'all');
    if (extent === 'missing') keepFlags(before, after, geometry.entryBytes);
    if (writeChanges(storage, before, after, offset)) changed = true;
  });
  const l1Before = Buffer.alloc(header.l1Size * 8);
  readPadded(storage, l1Before, header.l1TableOffset);
  const l1After = Buffer.from(l1Before);
  for (let at = 0; at < l1After.length; at += 8) {
    const offset = entryOffset(l1After.readUInt32BE(at), l1After.readUInt32BE(at + 4));
    setCopied(
      l1After,
      at,
      offset !== 0 && isL2Table(counts, offset, clusterSize) && counts.count(offset / clusterSize) === 1,
    );
  }
  if (extent === 'missing') keepFlags(l1Before, l1After, 8);
  if (writeChanges(storage, l1Before, l1After, header.l1TableOffset)) changed = true;
  if (changed) storage.sync();
}

function fixL2(table: Buffer, geometry: Geometry, counts: ReferenceCounts, clearsCompressed: boolean): void {
  const { clusterSize, entryBytes, externalData } = geometry;
  for (let at = 0; at < clusterSize; at += entryBytes) {
    const high = table.readUInt32BE(at);
    const offset = flaggedOffset(high, table.readUInt32BE(at + 4), externalData);
    if (isCompressed(high)) {
      if (clearsCompressed) setCopied(table, at, false);
      continue;
    }
    // External data belong to nobody else.
    if (offset === undefined) setCopied(table, at, false);
    else setCopied(table, at, externalData || counts.count(Math.floor(offset / clusterSize)) === 1);
  }
}

/** Takes back what `after` has cleared. */
function keepFlags(before: Buffer, after: Buffer, entryBytes: number): void {
  for (let at = 0; at < after.length; at += entryBytes) after[at] = after[at]! | (before[at]! & COPIED);
}

function setCopied(table: Buffer, at: number, copied: boolean): void {
  table[at] = copied ? table[at]! | COPIED : table[at]! & ~COPIED;
}
