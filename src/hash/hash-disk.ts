/** Digests of a disk, made by threads. The calling thread only waits, and passes on what they tell. */
import { Worker } from 'node:worker_threads';
import { fromErrorRecord, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import type { Progress } from '../progress.js';
import type { Layers } from '../qcow2/chain.js';
import type { LossListener } from '../salvage.js';
import { createTrace } from '../trace.js';
import { type Algorithm, shareOut } from './algorithms.js';
import { allocateClaims, Claims, MAX_PARTS, type SharedClaims } from './claims.js';
import type { HashOrder, HashReport } from './hash-worker.js';
import { allocateRing } from './ring.js';

const debug = createTrace('hash');

const STDERR = 2;
/** What is read at a time: bytes. Less costs more to hand over, and more leaves the caches of the processor. */
const CHUNK_BYTES = 1024 * 1024;
/** Parts that wait to be hashed, besides those that are being read. */
const SPARE_SLOTS = 6;
/** Parts of pieces that may wait for one before them. */
const PARTS_AHEAD = 64;

export interface HashInput {
  readonly layers: Layers;
  /** Bytes of the disk. */
  readonly size: number;
  readonly algorithms: readonly Algorithm[];
  readonly threads: number;
  /** Counts bytes; the work ends early when it is cancelled. */
  readonly progress: Progress;
  /** Told of all losses before the result is there, in about their order. */
  readonly onLoss: LossListener;
  readonly onNotice: (message: string) => void;
}

export interface WholeDiskResult {
  /** Hexadecimal, by the name of the algorithm; empty when the work was cancelled. */
  readonly digests: ReadonlyMap<string, string>;
  /** Bytes from the start of the disk that were read and hashed. */
  readonly tried: number;
}

/** @throws Qcow2fsError when a thread breaks down */
export async function hashDisk(input: HashInput): Promise<WholeDiskResult> {
  const { size, algorithms, threads } = input;
  const partBytes = partSize(size, CHUNK_BYTES);
  const shares = shareOut(algorithms, threads);
  const consumers = shares.filter((names) => names.length > 0).length;
  debug('%d bytes in parts of %d, %d threads, %d of them hash', size, partBytes, threads, consumers);
  const ring = allocateRing(Math.ceil(size / partBytes), partBytes, threads + SPARE_SLOTS, consumers);
  const digests = new Map<string, string>();
  const orders = shares.map((names): HashOrder['work'] => ({
    type: 'whole',
    share: { ring, size, algorithms: names },
  }));
  await runThreads(input, orders, ring.claims, (report) => {
    if (report.type === 'digests') for (const [name, digest] of report.digests) digests.set(name, digest);
  });
  const tried = Math.min(size, new Claims(ring.claims).done * partBytes);
  return { digests, tried };
}

/**
 * @param digests of the pieces from `first` on, in order; of each in the order of the algorithms
 * @returns what resolves when there is room for more: a disk of zeros has digests much faster than anybody reads them
 */
export type PiecesListener = (first: number, digests: readonly string[]) => Promise<void>;

/** @returns bytes from the start of the disk that were hashed */
export async function hashPieces(
  input: HashInput,
  pieceBytes: number,
  onPieces: PiecesListener,
): Promise<number> {
  const { size, algorithms, threads } = input;
  const perPart = Math.max(1, Math.floor(partSize(size, CHUNK_BYTES) / pieceBytes));
  const partBytes = perPart * pieceBytes;
  const claims = allocateClaims(Math.ceil(size / partBytes), PARTS_AHEAD);
  const chunkBytes = Math.max(CHUNK_BYTES, perPart > 1 ? partBytes : 0);
  const names = algorithms.map(({ name }) => name);
  debug('%d bytes in pieces of %d, %d at a time, %d threads', size, pieceBytes, perPart, threads);
  const share = { claims, size, pieceBytes, partBytes, chunkBytes, algorithms: names };
  const early = new Map<number, readonly string[]>();
  const shared = new Claims(claims);
  let told = 0;
  let telling = Promise.resolve();
  const tell = async (part: number, digests: readonly string[]): Promise<void> => {
    await onPieces(part * perPart, digests);
    shared.finish();
  };
  await runThreads(input, Array(threads).fill({ type: 'pieces', share }), claims, (report) => {
    if (report.type !== 'part') return;
    early.set(report.part, report.digests);
    for (let next = early.get(told); next !== undefined; next = early.get(told)) {
      const [part, digests] = [told, next];
      early.delete(told++);
      telling = telling.then(() => tell(part, digests));
    }
  });
  await telling;
  return Math.min(size, shared.done * partBytes);
}

/** A power of 2 that keeps the number of parts in bounds. */
function partSize(size: number, least: number): number {
  let bytes = least;
  while (size / bytes > MAX_PARTS) bytes *= 2;
  return bytes;
}

/** Settles when all threads have ended; rejects when one broke down, and then all others end. */
async function runThreads(
  input: HashInput,
  work: readonly HashOrder['work'][],
  claims: SharedClaims,
  onReport: (report: HashReport) => void,
): Promise<void> {
  const { layers, progress, onLoss, onNotice } = input;
  const listen = (report: HashReport): void => {
    if (report.type === 'losses') report.losses.forEach(onLoss);
    else if (report.type === 'notice') onNotice(report.message);
    else onReport(report);
  };
  const wake = (): void => new Claims(claims).announce();
  const threads = work.map((share) => runThread({ layers, progress: progress.memory, work: share }, listen));
  try {
    await Promise.all(threads);
  } catch (error) {
    progress.cancel();
    wake();
    throw error;
  }
}

function runThread(order: HashOrder, listen: (report: HashReport) => void): Promise<void> {
  // With a stream of its own for traces: joining it to that of the process would hold a terminal.
  const worker = new Worker(new URL('./hash-worker.js', import.meta.url), {
    workerData: order,
    stdout: true,
    stderr: true,
  });
  for (const output of [worker.stdout, worker.stderr]) output.on('data', passOn);
  return new Promise((resolve, reject) => {
    worker.on('message', (report: HashReport) => {
      if (report.type === 'failed') reject(fromErrorRecord(report.error));
      else listen(report);
    });
    worker.on('error', (error) => reject(new Qcow2fsError('internal', `a thread died: ${error.message}`)));
    worker.on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Qcow2fsError('internal', `a thread died with exit code ${code}`));
    });
  });
}

function passOn(text: Buffer): void {
  try {
    fs.writeSync(STDERR, text);
  } catch {
    // Nobody reads it.
  }
}
