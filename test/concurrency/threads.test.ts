/**
 * Threads that contend for one disk: own stripes smaller than sectors, and units that all of them write, erase and read.
 * A long run by hand: QCOW2FS_OPERATIONS=20000 QCOW2FS_SEED=7 make test TESTS=dist/test/concurrency/threads.test.js
 */

import { Worker } from 'node:worker_threads';
import { readSecret } from '../../src/cli/secret.js';
import type { Disk } from '../../src/disk.js';
import { attachDisk, openLayers } from '../../src/qcow2/chain.js';
import { useCleanUp } from '../support/clean-up.js';
import type { Report } from '../support/contention/contender.js';
import { contendedVariants, fileOf } from '../support/contention/images.js';
import { expectConsistent } from '../support/contention/verdict.js';
import { lane } from '../support/lane.js';
import { useScratch } from '../support/scratch.js';
import type { WorkerOrder } from './contending-worker.js';

/** Of all threads together. */
const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? lane(1200, 12_800, 400));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const THREADS = [2, 8];
const WORKER = new URL('./contending-worker.js', import.meta.url);

describe('threads that contend for one disk', function () {
  this.timeout(300_000 + OPERATIONS * 50);
  for (const { name, speed, build } of lane(
    contendedVariants,
    contendedVariants,
    contendedVariants.slice(0, 3),
  )) {
    describe(name, () => {
      const scratch = useScratch();
      const defer = useCleanUp();

      for (const threads of THREADS) {
        it(`read what was written: ${threads} of them`, async () => {
          const contended = build(scratch.subdir());
          const { secret } = contended.image;
          const key = secret && readSecret(secret.file, secret.format);
          const layers = openLayers(fileOf(contended), { secret: key, writable: true });
          const disk = await attachDisk(layers);
          const orders = Array.from({ length: threads }, (_, contender): WorkerOrder => {
            return {
              layers,
              contender,
              contenders: threads,
              layout: contended.layout,
              operations: Math.ceil((OPERATIONS * speed) / threads),
              seed: SEED,
              initial: contended.initial,
              erasing: 0.4,
              role: threads > 2 && contender === threads - 1 ? 'reader' : 'both',
            };
          });
          const reports = await Promise.all(
            orders.map((order) => {
              const worker = new Worker(WORKER, { workerData: order });
              defer(() => void worker.terminate());
              return reportOf(worker);
            }),
          );
          const seen = contentOf(disk);
          disk.close();
          expectConsistent(contended, reports, seen);
        });
      }
    });
  }
});

function reportOf(worker: Worker): Promise<Report> {
  return new Promise((resolve, reject) => {
    worker.once('message', (report: Report) => resolve(withBuffers(report)));
    worker.once('error', reject);
  });
}

/** Between threads a Buffer arrives as a Uint8Array. */
function withBuffers(report: Report): Report {
  const buffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
    Buffer.from(buffer as ArrayBuffer, byteOffset, length);
  const sightings = report.sightings.map((sighting) => ({
    ...sighting,
    mixed: new Map([...sighting.mixed].map(([unit, bytes]) => [unit, buffer(bytes)])),
  }));
  return { ...report, sightings, shadow: buffer(report.shadow) };
}

function contentOf(disk: Disk): Buffer {
  const content = Buffer.alloc(disk.size);
  disk.read(content, 0, content.length, 0);
  return content;
}
