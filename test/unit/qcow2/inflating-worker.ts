/** One of several threads that read the same compressed clusters. */
import { parentPort, workerData } from 'node:worker_threads';
import { CompressedClusters, type SharedCompression } from '../../../src/qcow2/compressed.js';
import { host } from '../../../src/qcow2/format/units.js';
import { Run, RunKind } from '../../../src/qcow2/mapping.js';
import { Random } from '../../support/random.js';
import { MemoryStorage } from '../support/memory-storage.js';

export interface InflatingTask {
  readonly compression: SharedCompression;
  /** The streams, one after the other. */
  readonly stored: SharedArrayBuffer;
  /** Where each stream starts, and where the last one ends. */
  readonly starts: readonly number[];
  /** The clusters, one after the other. */
  readonly content: SharedArrayBuffer;
  /** `together`: all threads read the same small pieces in step. */
  readonly how: 'together' | 'at random';
  readonly seed: number;
  /** Threads that have arrived at the next piece. */
  readonly meeting: SharedArrayBuffer;
  readonly threads: number;
}

const task = workerData as InflatingTask;
const { clusterSize } = task.compression;
const storage = new MemoryStorage(Buffer.from(task.stored));
const clusters = new CompressedClusters(storage, task.compression);
const content = Buffer.from(task.content);
const random = new Random(task.seed);
const target = Buffer.alloc(clusterSize);
let wrong = 0;

function runOf(index: number): Run {
  const run = new Run();
  run.kind = RunKind.compressed;
  run.hostOffset = host(task.starts[index]!);
  run.compressedBytes = task.starts[index + 1]! - task.starts[index]!;
  run.clusterStart = index * clusterSize;
  return run;
}

function check(index: number, start: number, length: number): void {
  const run = runOf(index);
  run.length = length;
  clusters.read(run, target, 0, run.clusterStart + start);
  const expected = content.subarray(run.clusterStart + start, run.clusterStart + start + length);
  if (!target.subarray(0, length).equals(expected)) wrong++;
}

/** Returns when all threads have called it as often. */
function meet(round: number): void {
  const words = new Int32Array(task.meeting);
  const all = (round + 1) * task.threads;
  if (Atomics.add(words, 0, 1) + 1 === all) Atomics.notify(words, 0);
  for (let seen = Atomics.load(words, 0); seen < all; seen = Atomics.load(words, 0))
    Atomics.wait(words, 0, seen);
}

const count = task.starts.length - 1;
if (task.how === 'together') {
  const piece = clusterSize / 4;
  for (let round = 0; round < 4 * count; round++) {
    meet(round);
    check(Math.floor(round / 4), (round % 4) * piece, piece);
  }
} else {
  for (let round = 0; round < 5000; round++) {
    const index = random.below(count);
    if (random.below(4) === 0) clusters.prefetch(runOf(index));
    const start = random.below(2) * random.below(clusterSize);
    check(index, start, 1 + random.below(clusterSize - start));
  }
}
parentPort!.postMessage({ wrong, reads: storage.reads });
