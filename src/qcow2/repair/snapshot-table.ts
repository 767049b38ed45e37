/**
 * Completes snapshots that do not tell their disk size, which version 3 demands (specification: "Snapshots", extra data):
 * it is taken to be the disk size of today, as everybody takes it who reads them. The table grows, so it moves:
 *
 *   1. Its new place is counted. 2. The new table is written there. Sync. 3. The header names it. Sync. The old one has
 *   leaked then, which the rest of the repair mends.
 */

import type { References } from '../check/references.js';
import { completeSnapshotTable, snapshotTableBytes } from '../format/snapshots.js';
import { type Image, readUpTo } from '../image.js';
import { writeSnapshotTableLocation } from '../writing/header-fields.js';
import { planRefcounts } from './refcount-plan.js';
import { writeRefcounts } from './refcount-writer.js';

/**
 * @returns whether there was anything to complete; `image` and `references` tell how it was, then
 * @throws Qcow2fsError `host-io`, `unsupported`
 */
export function completeSnapshots(image: Image, references: References): boolean {
  const { header, snapshots, storage } = image;
  if (header.version < 3 || snapshots.every(({ tellsDiskSize }) => tellsDiskSize)) return false;
  const old = readUpTo(storage, header.snapshotsOffset, snapshotTableBytes(snapshots));
  const table = completeSnapshotTable(old, header);
  const { clusterSize } = header;
  const { counts, outside } = references;
  const clusters = Math.ceil(table.length / clusterSize);
  let first = counts.end;
  for (let cluster = first; cluster < first + clusters; cluster++) {
    if (outside.has(cluster)) first = cluster + 1;
  }
  for (let cluster = first; cluster < first + clusters; cluster++) counts.add(cluster, 1, 'snapshot table');
  writeRefcounts(image, references, planRefcounts(image, references));
  storage.write(table, 0, table.length, first * clusterSize);
  storage.sync();
  writeSnapshotTableLocation(storage, first * clusterSize);
  storage.sync();
  return true;
}
