/**
 * Repairs: what a check found and what can be mended without guessing. No order of writes makes an image worse at any
 * instant, so a repair that is cut off can be started again. It begins with a sync: what a repair that was killed has
 * written may be read, and yet be lost by a power cut; nothing may build on it before.
 *
 *   1. Snapshots that do not tell their size: see snapshot-table.ts. Entries that say nothing else when they are sound. Sync.
 *   2. Refcounts. Those that are raised protect what is used; those that are lowered count what nothing refers to any
 *      more since the last sync. New blocks and a new table are complete before anything names them.
 *   3. COPIED flags, when the refcounts are true.
 *   4. The dirty and the corrupt bit, when another check finds nothing.
 */
import { Qcow2fsError } from '../../errors.js';
import type { Progress } from '../../progress.js';
import type { Storage } from '../../storage.js';
import type { FindingKind, Findings, Report } from '../check/finding.js';
import { FINDING_KINDS } from '../check/finding.js';
import { Cancelled } from '../check/reference-scan.js';
import { countReferences, type References } from '../check/references.js';
import { StoredRefcounts } from '../check/stored-refcounts.js';
import { encodeField, hasFeature, Incompatible } from '../format/header.js';
import { hex } from '../format/units.js';
import { type Image, readImage } from '../image.js';
import { clearUnknownAutoclear } from '../writing/header-fields.js';
import { fixCopiedFlags } from './copied-flags.js';
import { fixEntries } from './entries.js';
import { planRefcounts } from './refcount-plan.js';
import { refuseOverflow, writeRefcounts } from './refcount-writer.js';
import { completeSnapshots } from './snapshot-table.js';

export const REPAIR_LEVELS = ['leaks', 'all'] as const;
/** `leaks`: gives back space that is lost. `all`: that, and what is corrupt. */
export type RepairLevel = (typeof REPAIR_LEVELS)[number];

/** For a dirty image that somebody wants to write: what makes the counting itself doubtful. */
const DOUBTFUL: ReadonlySet<FindingKind> = new Set([
  'lost-table',
  'metadata-overlap',
  'overlap',
  'outside-file',
  'misplaced-data',
  'misplaced-zeros',
  'compressed-external',
  'refcount-structure',
  'bitmap-directory',
  'luks',
]);
const COUNTED: Report = () => {};
export const INCOMPLETE = 'it is not known what else is in use';
export const SEE_WHAT_IS_WRONG = 'see what is wrong: qcow2fs check, or mount it read-only: -r';

/**
 * Mends what the level says and what can be mended; `markSound` is the caller's, after another check.
 * @param storage open read-write, used by nobody else
 * @param findings of the check before
 * @throws Qcow2fsError `corrupt` when it is not known what is used, `unsupported` when a refcount cannot be told or the
 * image is too large, `no-space` on a device that is full; nothing is changed then. `host-io`, Cancelled: what was done
 * stays done
 */
export function repairImage(
  storage: Storage,
  findings: Findings,
  level: RepairLevel,
  progress?: Progress,
): void {
  storage.sync();
  let image = readImage(storage);
  let references = countReferences(image, COUNTED, progress);
  refuseIncomplete(image, references);
  if (level === 'all') {
    refuseOverflow(image, references.counts);
    // Whether there will be room for the refcounts. What such a plan takes is counted, so the counts are of no more use.
    planRefcounts(image, references);
    references = countReferences(image, COUNTED, progress);
  } else refuseBrokenRefcounts(image, references);
  stopIfAsked(progress);
  if (clearUnknownAutoclear(storage, image.header)) storage.sync();
  if (level === 'all') {
    if (completeSnapshots(image, references)) {
      image = readImage(storage);
      references = countReferences(image, COUNTED, progress);
    }
    fixEntries(image, references);
    references = countReferences(image, COUNTED, progress);
  } else keepLowRefcounts(image, references);
  stopIfAsked(progress);
  writeRefcounts(image, references, planRefcounts(image, references));
  const isThorough = level === 'all' || onlyFlagsAreCorrupt(findings);
  fixCopiedFlags(readImage(storage), references.counts, isThorough ? 'standard' : 'missing');
}

/** Clears the dirty and the corrupt bit of an image in which a check found nothing corrupt. */
export function markSound(storage: Storage): void {
  const { header } = readImage(storage);
  const kept = header.incompatibleFeatures & ~(Incompatible.dirty | Incompatible.corrupt);
  if (kept !== header.incompatibleFeatures) writeIncompatible(storage, kept);
}

/**
 * Sets every refcount of a dirty image (specification: "Header", incompatible feature bit 0) to the number of
 * references, then the COPIED flags, and clears the dirty bit last: nobody trusts a refcount until then. An image that
 * is not dirty is left alone. `image` tells the header as it was: read it anew afterwards.
 *
 * @param image open read-write, and used by nobody else
 * @throws Qcow2fsError `corrupt` when its structures are damaged, `unsupported` when it is too large for this
 * repair, `format`; nothing has been written then. `host-io` at any time: the image is still dirty then.
 */
export function repairDirtyImage(image: Image): void {
  const { header, storage } = image;
  if (!hasFeature(header, Incompatible.dirty)) return;
  const refuse = (doubt: string): never => {
    throw new Qcow2fsError('corrupt', `${storage.path}: ${doubt}; ${SEE_WHAT_IS_WRONG}`);
  };
  const references = countReferences(image, doubtsTo(refuse));
  if (!references.isComplete) refuse(`header at 0x0: ${INCOMPLETE}`);
  correctRefcounts(image, references);
  writeIncompatible(storage, header.incompatibleFeatures & ~Incompatible.dirty);
}

/** Sets every refcount to the number of references, then the COPIED flags. @throws Qcow2fsError as `repairDirtyImage` */
export function correctRefcounts(image: Image, references: References): void {
  refuseOverflow(image, references.counts);
  writeRefcounts(image, references, planRefcounts(image, references));
  fixCopiedFlags(image, references.counts);
}

/** @param tell is told of what makes the counting itself doubtful; may throw */
export function doubtsTo(tell: (doubt: string) => void): Report {
  return (kind, { name, offset }, what, { entry = null } = {}) => {
    if (!DOUBTFUL.has(kind)) return;
    tell(`${name} at ${hex(offset)}${entry === null ? '' : `, entry ${entry}`}: ${what}`);
  };
}

function refuseIncomplete({ storage }: Image, { isComplete }: References): void {
  if (isComplete) return;
  throw new Qcow2fsError(
    'corrupt',
    `${storage.path}: a table is lost or the file was cut off, so nobody knows what else is in use; copy what can be read: qcow2fs mount -r and ddrescue`,
  );
}

function refuseBrokenRefcounts({ storage }: Image, { refcounts }: References): void {
  if (refcounts.isTableSound && refcounts.broken === 0) return;
  throw new Qcow2fsError(
    'corrupt',
    `${storage.path}: the refcounts themselves are damaged; repair them, too: --repair all`,
  );
}

/** What is counted too low stays so: who repairs leaks alone changes nothing else. */
function keepLowRefcounts(image: Image, references: References): void {
  const { counts } = references;
  const stored = new StoredRefcounts(image, references);
  counts.forEach(0, counts.end, (cluster, count) => {
    const has = stored.get(cluster);
    if (has < count) counts.set(cluster, has);
  });
}

/**
 * A cluster that leaked and is used once has COPIED clear, which is right only until the leak is mended: so even who
 * repairs leaks alone sets flags; and mends all, also those that a repair left that was cut off, where nothing else is
 * corrupt.
 */
export function onlyFlagsAreCorrupt({ kinds }: Findings): boolean {
  return [...kinds.keys()].every(
    (kind) => kind === 'copied-flag' || FINDING_KINDS[kind].severity !== 'corruption',
  );
}

function stopIfAsked(progress: Progress | undefined): void {
  if (progress?.isCancelled) throw new Cancelled('interrupted');
}

function writeIncompatible(storage: Storage, incompatibleFeatures: bigint): void {
  const { offset, bytes } = encodeField({ incompatibleFeatures });
  storage.write(bytes, 0, bytes.length, offset);
  storage.sync();
}
