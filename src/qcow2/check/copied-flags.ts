/**
 * The COPIED flags of the active L1 and L2 tables (specification: "L1 table entry", "L2 table entry", bit 63): set
 * exactly where the refcount is 1, so that a cluster may be written in place. Those of snapshots mean nothing.
 */
import type { Progress } from '../../progress.js';
import { entryOffset, isCopied } from '../format/entries.js';
import { hex } from '../format/units.js';
import { geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import type { Report } from './finding.js';
import { advance } from './reference-scan.js';
import { flaggedOffset, forEachActiveL2, isL2Table, type References } from './references.js';
import type { StoredRefcounts } from './stored-refcounts.js';
import { forEachEntry } from './table-reader.js';

export const PHASE_FLAGS = 3;

/** Reports each flag that disagrees with the refcount that the image has. */
export function checkCopiedFlags(
  image: Image,
  { counts }: References,
  stored: StoredRefcounts,
  report: Report,
  progress?: Progress,
): void {
  const { header, storage } = image;
  const { clusterSize, entryBytes, externalData, tableCoverage } = geometryOf(header);
  const isWrong = (high: number, offset: number): boolean =>
    (stored.get(Math.floor(offset / clusterSize)) === 1) !== isCopied(high);
  const say = (high: number, offset: number): string =>
    `COPIED is ${isCopied(high) ? 'set' : 'clear'}, but the refcount of ${hex(offset)} is ${stored.get(Math.floor(offset / clusterSize))}`;

  let tables = 0;
  const l1 = { name: 'L1 table', offset: header.l1TableOffset, guest: { start: 0, step: tableCoverage } };
  forEachEntry(storage, header.l1TableOffset, header.l1Size, (entry, high, low) => {
    const offset = entryOffset(high, low);
    if (offset === 0 || !isL2Table(counts, offset, clusterSize)) return;
    tables++;
    if (isWrong(high, offset)) report('copied-flag', l1, say(high, offset), { entry });
  });

  progress?.begin(PHASE_FLAGS, tables);
  forEachActiveL2(image, counts, (tableOffset, table, l1Index) => {
    advance(progress, 1);
    const guest = { start: l1Index * tableCoverage, step: clusterSize };
    const place = { name: 'L2 table', offset: tableOffset, guest };
    for (let at = 0; at < clusterSize; at += entryBytes) {
      const high = table.readUInt32BE(at);
      const offset = flaggedOffset(high, table.readUInt32BE(at + 4), externalData);
      if (offset === undefined) continue;
      const entry = at / entryBytes;
      // External data belong to nobody else.
      if (externalData) {
        if (!isCopied(high))
          report('copied-flag', place, 'COPIED is clear in an image with a data file', { entry });
      } else if (isWrong(high, offset)) report('copied-flag', place, say(high, offset), { entry });
    }
  });
}
