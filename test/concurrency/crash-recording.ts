/** Several threads write one image in shared memory: what they asked of the host files, and what they were told. */
import { Worker } from 'node:worker_threads';
import { readSecret } from '../../src/cli/secret.js';
import { attachDisk, openLayers } from '../../src/qcow2/chain.js';
import type { Defer } from '../support/clean-up.js';
import type { Range } from '../support/contention/layout.js';
import type { CrashImage } from '../support/crash/images.js';
import { contentOf, type Files, readFiles } from '../support/crash/recording.js';
import { imagePath } from '../support/images.js';
import { randomNumbers } from '../support/random-guest.js';
import type { CrashOrder, CrashReport, TimedOperation } from './crash-thread.js';
import { type Recorded, Recorder, sharedContent, shareFile } from './shared-file.js';

const WORKER = new URL('./crash-thread.js', import.meta.url);

export interface ThreadedRecording {
  readonly before: Files;
  readonly after: Files;
  /** The guest disk. */
  readonly content: Buffer;
  /** In the order in which it takes effect. */
  readonly log: readonly Recorded[];
  /** In the order in which they began. */
  readonly operations: readonly TimedOperation[];
}

export interface ThreadedWorkload {
  readonly threads: number;
  /** Of each thread. */
  readonly operations: number;
  readonly seed: number;
  readonly erasing: boolean;
}

export async function recordThreads(
  crashImage: CrashImage,
  work: ThreadedWorkload,
  defer: Defer,
): Promise<ThreadedRecording> {
  const { image, clusterSize } = crashImage;
  const { threads, seed } = work;
  const before = readFiles(crashImage);
  const files = [...before].map(([path, bytes]) => shareFile(path, bytes));
  const clock = new SharedArrayBuffer(4);
  const recorder = new Recorder(files, clock, randomNumbers(seed));
  const { secret } = image;
  const options = { writable: true, secret: secret && readSecret(secret.file, secret.format) };
  const layers = openLayers(imagePath(image), options, recorder.storageOf);
  const disk = await attachDisk(layers, recorder.storageOf);
  const content = contentOf(disk);
  const owned = territories(content.length, clusterSize, threads);
  const reports = await Promise.all(
    owned.map((own, thread) => {
      const order: CrashOrder = { layers, files, clock, territories: own, thread, ...work };
      const worker = new Worker(WORKER, { workerData: order });
      defer(() => void worker.terminate());
      return reportOf(worker);
    }),
  );
  const begin = recorder.tick();
  disk.close();
  const last: TimedOperation = { operation: { do: 'flush' }, begin, end: recorder.tick() };
  const logs = [recorder.log, ...reports.map(({ log }) => log)].flat();
  const timed = [...reports.flatMap((report) => report.operations), last];
  return {
    before,
    after: new Map(files.map((file) => [file.path, sharedContent(file)])),
    content,
    log: logs.sort((a, b) => a.applied - b.applied),
    operations: timed.sort((a, b) => a.begin - b.begin),
  };
}

/** Ranges in turn for each thread, none of them aligned: some within a sector, some of several clusters. */
function territories(size: number, clusterSize: number, threads: number): Range[][] {
  const lengths = [3001, 61, clusterSize + 777, 1999, 2 * clusterSize + 1, 509, 5003];
  const owned: Range[][] = Array.from({ length: threads }, () => []);
  for (let offset = 0, index = 0; offset < size; index++) {
    const length = Math.min(lengths[index % lengths.length]!, size - offset);
    owned[index % threads]!.push({ offset, length });
    offset += length;
  }
  return owned;
}

function reportOf(worker: Worker): Promise<CrashReport> {
  return new Promise((resolve, reject) => {
    worker.once('message', (report: CrashReport) => resolve(withBuffers(report)));
    worker.once('error', reject);
  });
}

/** Between threads a Buffer arrives as a Uint8Array. */
function withBuffers({ log, operations }: CrashReport): CrashReport {
  return {
    log: log.map((call) => ({ ...call, change: withBuffer(call.change) })),
    operations: operations.map((timed) => ({ ...timed, operation: withBuffer(timed.operation) })),
  };
}

function withBuffer<T extends object | undefined>(record: T): T {
  if (record === undefined || !('bytes' in record)) return record;
  const { buffer, byteOffset, length } = record.bytes as Uint8Array<ArrayBuffer>;
  return { ...record, bytes: Buffer.from(buffer, byteOffset, length) };
}
