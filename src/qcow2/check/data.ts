/** Reads every cluster that the image itself holds: what the host cannot read, and what does not inflate. */
import { Qcow2fsError } from '../../errors.js';
import type { Progress } from '../../progress.js';
import type { Storage } from '../../storage.js';
import { allocateCompression, CompressedClusters } from '../compressed.js';
import {
  type CompressedLayout,
  compressedLayout,
  compressedLength,
  compressedOffset,
  entryOffset,
  isCompressed,
} from '../format/entries.js';
import { hex, host } from '../format/units.js';
import { geometryOf } from '../geometry.js';
import type { Image } from '../image.js';
import { MAX_HOST_OFFSET, Run, RunKind } from '../mapping.js';
import type { Place, Report } from './finding.js';
import { advance } from './reference-scan.js';
import { isL2Table, type References } from './references.js';
import { forEachEntry, readPadded } from './table-reader.js';

export const PHASE_DATA = 4;

/** Bytes that are read at once. */
const PIECE_BYTES = 1024 * 1024;

/** Needs zstd to be prepared. */
export function checkData(image: Image, references: References, report: Report, progress?: Progress): void {
  const { header, storage } = image;
  const { clusterSize } = header;
  progress?.begin(PHASE_DATA, storage.size() + references.clusters.compressed * clusterSize);
  readWholeFile(storage, report, progress);
  const reader = new CompressedReader(image, report, progress);
  const { counts } = references;
  counts.beginPass();
  for (const { offset: l1Offset, entries, isActive } of references.l1Tables) {
    forEachEntry(storage, l1Offset, entries, (l1Index, high, low) => {
      const offset = entryOffset(high, low);
      if (offset === 0 || !isL2Table(counts, offset, clusterSize) || !counts.visit(offset / clusterSize))
        return;
      reader.check(offset, isActive ? l1Index : undefined);
    });
  }
}

function readWholeFile(storage: Storage, report: Report, progress: Progress | undefined): void {
  const room = Buffer.alloc(PIECE_BYTES);
  const size = storage.size();
  for (let at = storage.nextData(0); at < size; ) {
    const length = Math.min(PIECE_BYTES, size - at);
    try {
      storage.read(room, 0, length, at);
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.kind !== 'host-io') throw error;
      report('unreadable', { name: 'file', offset: at }, error.message.slice(storage.path.length + 2));
    }
    const next = storage.nextData(at + length);
    advance(progress, next - at);
    at = next;
  }
}

/** Tells whether compressed clusters inflate. Needs zstd to be prepared. */
export class Inflater {
  readonly #clusters: CompressedClusters;
  readonly #layout: CompressedLayout;
  readonly #room: Buffer;
  readonly #run = new Run();

  constructor({ header, storage }: Image) {
    this.#clusters = new CompressedClusters(storage, allocateCompression(header));
    this.#layout = compressedLayout(header.clusterBits);
    this.#room = Buffer.alloc(header.clusterSize);
    this.#run.kind = RunKind.compressed;
    this.#run.length = header.clusterSize;
  }

  /** Of an L2 entry. */
  inflates(high: number, low: number): boolean {
    this.#run.hostOffset = host(compressedOffset(high, low, this.#layout));
    this.#run.compressedBytes = compressedLength(high, low, this.#layout);
    if (this.#run.hostOffset > MAX_HOST_OFFSET) return false;
    try {
      this.#clusters.read(this.#run, this.#room, 0, 0);
      return true;
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.kind === 'internal') throw error;
      return false;
    }
  }
}

class CompressedReader {
  readonly #image: Image;
  readonly #report: Report;
  readonly #inflater: Inflater;
  readonly #table: Buffer;
  readonly #progress: Progress | undefined;

  constructor(image: Image, report: Report, progress: Progress | undefined) {
    this.#image = image;
    this.#report = report;
    this.#progress = progress;
    this.#inflater = new Inflater(image);
    this.#table = Buffer.alloc(image.header.clusterSize);
  }

  /** @param l1Index of a table of the active disk */
  check(offset: number, l1Index: number | undefined): void {
    const { entryBytes, clusterSize, clusterBits, tableCoverage, externalData } = geometryOf(
      this.#image.header,
    );
    if (externalData) return;
    const guest = l1Index === undefined ? undefined : { start: l1Index * tableCoverage, step: clusterSize };
    const place: Place = { name: 'L2 table', offset, guest };
    const layout = compressedLayout(clusterBits);
    readPadded(this.#image.storage, this.#table, offset);
    for (let at = 0; at < clusterSize; at += entryBytes) {
      const high = this.#table.readUInt32BE(at);
      const low = this.#table.readUInt32BE(at + 4);
      if (!isCompressed(high)) continue;
      advance(this.#progress, guest === undefined ? 0 : clusterSize);
      if (this.#inflater.inflates(high, low)) continue;
      const start = hex(compressedOffset(high, low, layout));
      this.#report('inflate', place, `the compressed cluster at ${start} does not inflate`, {
        entry: at / entryBytes,
      });
    }
  }
}
