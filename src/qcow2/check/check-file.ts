/** A check from beginning to end, as a command asks for it: locks, the image, its repair, and the files it stands on. */
import { Qcow2fsError } from '../../errors.js';
import { FileStorage, type OpenFile, openFile } from '../../host/file-storage.js';
import { lockImage, type ReadLock } from '../../host/image-locks.js';
import type { Progress } from '../../progress.js';
import type { Storage } from '../../storage.js';
import { createTrace } from '../../trace.js';
import type { BackingFormat } from '../backing-file.js';
import { imageStorage, type Layers, openLayers } from '../chain.js';
import { hasFeature, Incompatible } from '../format/header.js';
import { hex } from '../format/units.js';
import { readImage, readWithoutSnapshots } from '../image.js';
import { markSound, onlyFlagsAreCorrupt, type RepairLevel, repairImage } from '../repair/repair.js';
import { type CheckedImage, checkImage } from './check.js';
import { FINDING_KINDS, type Finding, type FindingKind, Findings, type Severity } from './finding.js';

const debug = createTrace('check');

export interface CheckRequest {
  readonly path: string;
  readonly repair: RepairLevel | undefined;
  readonly readData: boolean;
  /** Checks the backing files, too. */
  readonly wholeChain: boolean;
  readonly readLock: ReadLock;
  readonly allowDirectories: readonly string[];
  readonly backingFormat: BackingFormat | undefined;
}

export interface Found {
  /** Clusters, entries and ranges by severity. */
  readonly totals: Readonly<Record<Severity, number>>;
  /** The same by kind; kinds that were not found are not there. */
  readonly kinds: Readonly<Partial<Record<FindingKind, number>>>;
  readonly findings: readonly Finding[];
  /** Findings that are only counted, because there are so many. */
  readonly omitted: number;
}

/** Plain data: what `--json` prints. */
export interface CheckReport extends Found {
  readonly image: string;
  /** The image itself first; its backing files where they were checked, too. */
  readonly checked: readonly ({ readonly image: string } & CheckedImage)[];
  readonly repair: {
    readonly level: RepairLevel;
    readonly before: Found;
    /** Why nothing was done. */
    readonly refusal: string | null;
  } | null;
}

/** @throws Qcow2fsError where there is nothing to check; Cancelled */
export async function checkFile(request: CheckRequest, progress: Progress): Promise<CheckReport> {
  const { repair, readData } = request;
  const options = { readData, progress };
  const file = openLocked(request);
  const storage = new FileStorage(file);
  const { path } = storage;
  let findings = new Findings();
  let checked: CheckedImage;
  let repaired: CheckReport['repair'] = null;
  try {
    checked = await checkImage(storage, findings, options);
    if (repair !== undefined) {
      const before = found(findings);
      const refusal = isMendable(findings, repair) ? tryRepair(storage, findings, repair, progress) : null;
      repaired = { level: repair, before, refusal };
      findings = new Findings();
      checked = await checkImage(storage, findings, options);
      if (repair === 'all' && findings.totals.corruption === 0 && isMarked(storage)) {
        markSound(storage);
        findings = new Findings();
        checked = await checkImage(storage, findings, options);
      }
    }
  } finally {
    storage.close();
  }
  const all = [{ image: path, ...checked }, ...(await checkChain(request, path, findings, progress))];
  return { image: path, checked: all, ...found(findings), repair: repaired };
}

function found({ totals, kinds, kept, omitted }: Findings): Found {
  return { totals, kinds: Object.fromEntries(kinds), findings: kept, omitted };
}

function openLocked({ path, repair, readLock }: CheckRequest): OpenFile {
  const file = openFile(path, repair === undefined ? 'read-only' : 'read-write');
  try {
    lockImage(file, repair !== undefined ? 'write' : readLock);
    return file;
  } catch (error) {
    new FileStorage(file).close();
    throw error;
  }
}

function isMendable(findings: Findings, level: RepairLevel): boolean {
  const { kinds } = findings;
  if (kinds.has('copied-flag') && onlyFlagsAreCorrupt(findings)) return true;
  return [...kinds.keys()].some((kind) => {
    const { remedy } = FINDING_KINDS[kind];
    return remedy === 'leaks' || (level === 'all' && remedy === 'all');
  });
}

/** @returns why nothing was changed, or null */
function tryRepair(
  storage: FileStorage,
  findings: Findings,
  level: RepairLevel,
  progress: Progress,
): string | null {
  try {
    debug('%s: repairing %s', storage.path, level);
    repairImage(storage, findings, level, progress);
    return null;
  } catch (error) {
    const isRefusal =
      error instanceof Qcow2fsError && ['corrupt', 'unsupported', 'format'].includes(error.kind);
    if (!isRefusal) throw error;
    return error.message;
  }
}

function isMarked(storage: FileStorage): boolean {
  const { header } = readImage(storage);
  return hasFeature(header, Incompatible.dirty) || hasFeature(header, Incompatible.corrupt);
}

/** What the image stands on: can it be opened, and is there enough of it? */
async function checkChain(
  request: CheckRequest,
  path: string,
  findings: Findings,
  progress: Progress,
): Promise<({ image: string } & CheckedImage)[]> {
  const { allowDirectories, backingFormat, readLock, wholeChain, readData } = request;
  let layers: Layers;
  try {
    layers = openLayers(request.path, { locked: true, allowDirectories, backingFormat, readLock });
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.kind === 'internal') throw error;
    const report = findings.reportFor(path);
    if (isOfChain(error, path)) {
      report('chain', { name: 'backing or data file', offset: 0 }, error.message);
    } else if (['format', 'corrupt'].includes(error.kind) && findings.totals.corruption === 0) {
      // Else what is wrong with the image itself has been found.
      report('lost-table', { name: 'header', offset: 0 }, error.message.slice(path.length + 2));
    }
    return [];
  }
  const checked: ({ image: string } & CheckedImage)[] = [];
  try {
    for (const [depth, layer] of layers.entries()) {
      if (layer.kind === 'raw') continue;
      const storage = imageStorage(layer);
      if (depth > 0 && wholeChain) {
        const result = await checkImage(storage, findings, { readData, progress });
        checked.push({ image: storage.path, ...result });
      }
      if (layer.dataFile !== undefined) checkDataFile(storage, new FileStorage(layer.dataFile), findings);
    }
  } finally {
    for (const layer of layers) {
      new FileStorage(layer.file).close();
      if (layer.kind === 'qcow2' && layer.dataFile !== undefined) new FileStorage(layer.dataFile).close();
    }
  }
  return checked;
}

function isOfChain(error: Qcow2fsError, path: string): boolean {
  return ['named-file', 'unsupported'].includes(error.kind) || !error.message.startsWith(`${path}: `);
}

function checkDataFile(storage: Storage, dataFile: FileStorage, findings: Findings): void {
  const { header } = readWithoutSnapshots(storage);
  const size = dataFile.size();
  if (size >= header.size) return;
  const what = `${dataFile.path} has ${size} bytes; the disk has ${header.size} (${hex(header.size)})`;
  findings.reportFor(storage.path)('data-file', { name: 'data file', offset: size }, what);
}
