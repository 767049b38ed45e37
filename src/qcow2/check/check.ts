/** A check of one image: everything that can be told without its keys and without the files that it names. */
import type { Progress } from '../../progress.js';
import type { Storage } from '../../storage.js';
import { hasFeature, Incompatible } from '../format/header.js';
import { snapshotTitle } from '../format/snapshots.js';
import { type Image, l1EntriesFor, readImage } from '../image.js';
import { prepareZstd } from '../zstd.js';
import { checkCopiedFlags, PHASE_FLAGS } from './copied-flags.js';
import { checkData, PHASE_DATA } from './data.js';
import type { Findings, Place, Report } from './finding.js';
import { type ClusterStatistics, countReferences, PHASE_CLUSTERS, PHASE_TABLES } from './references.js';
import { compareRefcounts, PHASE_REFCOUNTS, StoredRefcounts } from './stored-refcounts.js';

/** What is done, by the number of the phase in `Progress`. */
export const CHECK_PHASES = {
  [PHASE_TABLES]: 'looking for tables',
  [PHASE_CLUSTERS]: 'counting references',
  [PHASE_REFCOUNTS]: 'comparing refcounts',
  [PHASE_FLAGS]: 'looking at flags',
  [PHASE_DATA]: 'reading all data',
} as const;

export interface CheckOptions {
  /** Reads all data, and inflates what is compressed. */
  readonly readData?: boolean;
  readonly progress?: Progress;
}

export interface CheckedImage {
  /** False where a table is lost, so that nobody knows what else is used. */
  readonly isComplete: boolean;
  /** Clusters of the disk. */
  readonly clusters: ClusterStatistics & { readonly total: number };
  /** Bytes of the file up to the last cluster that is used or counted as such. */
  readonly end: number;
  readonly snapshots: number;
}

/** @throws Qcow2fsError `format`, `unsupported`, `host-io`; Cancelled when the progress says so */
export async function checkImage(
  storage: Storage,
  findings: Findings,
  { readData = false, progress }: CheckOptions = {},
): Promise<CheckedImage> {
  const report = findings.reportFor(storage.path);
  const image = readForCheck(storage, report);
  const { header } = image;
  if (hasFeature(header, Incompatible.dirty)) {
    report('dirty', HEADER, 'the image was not closed properly: refcounts may be behind');
  }
  if (hasFeature(header, Incompatible.corrupt)) {
    report('marked-corrupt', HEADER, 'the image is marked corrupt: it cannot be written');
  }
  checkSnapshots(image, report);
  const references = countReferences(image, report, progress);
  const stored = new StoredRefcounts(image, references);
  compareRefcounts(image, references, stored, report, progress);
  checkCopiedFlags(image, references, stored, report, progress);
  // A repair may want it, too.
  if (header.compressionType === 'zstd') await prepareZstd();
  if (readData) checkData(image, references, report, progress);
  if (!references.isComplete) findings.withdrawRemedies(storage.path);
  return {
    isComplete: references.isComplete,
    clusters: { ...references.clusters, total: Math.ceil(header.size / header.clusterSize) },
    end: references.counts.end * header.clusterSize,
    snapshots: image.snapshots.length,
  };
}

const HEADER: Place = { name: 'header', offset: 0 };

/** As `readImage`, but a snapshot table that makes no sense is a finding, and the image counts as one without any. */
export function readForCheck(storage: Storage, report: Report): Image {
  return readImage(storage, (error, { snapshotsOffset }) => {
    const what = error.message.slice(storage.path.length + 2);
    report('snapshot-table', { name: 'snapshot table', offset: snapshotsOffset }, what);
  });
}

function checkSnapshots({ header, snapshots }: Image, report: Report): void {
  const place: Place = { name: 'snapshot table', offset: header.snapshotsOffset };
  if (header.snapshotsOffset % header.clusterSize !== 0) {
    report(
      'snapshot-table',
      place,
      'it has no snapshots, but a place that is not aligned: QEMU does not open it',
    );
  }
  const known = new Set<string>();
  for (const [entry, { id, name, l1Size, diskSize, tellsDiskSize }] of snapshots.entries()) {
    const at = { entry };
    const title = snapshotTitle({ id, name });
    if (header.version >= 3 && !tellsDiskSize) {
      report('snapshot-incomplete', place, `${title} does not tell its disk size`, at);
    }
    const needed = l1EntriesFor(header, diskSize);
    if (l1Size < needed) {
      report('snapshot', place, `${title}: its L1 table has ${l1Size} entries; its disk needs ${needed}`, at);
    }
    if (known.has(id)) {
      report('snapshot-ambiguous', place, `${title}: another snapshot has the same ID`, at);
    }
    known.add(id);
  }
}
