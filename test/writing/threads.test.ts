/** Several threads write one image at once. */

import fs from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { readSecret } from '../../src/cli/secret.js';
import { attachDisk, openLayers } from '../../src/qcow2/chain.js';
import { checkImage, convertToRaw } from '../support/images.js';
import { lane } from '../support/lane.js';
import { useScratch } from '../support/scratch.js';
import { variants } from '../support/variants.js';
import type { StripedOrder } from './striped-worker.js';

const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? lane(600, 12_000));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const THREADS = 4;
const WORKER = new URL('./striped-worker.js', import.meta.url);

/**
 * Stripe sizes: odd ones leave no cluster, sector or subcluster to one thread alone. Where the threads keep to a part
 * of the disk, they meet all the time.
 */
const CASES: readonly (readonly [variant: string, stripe: number, region?: number])[] = [
  ['v3, 64 KiB clusters', 3001],
  ['v3, 512 B clusters', 3001],
  ['v3, 2 MiB clusters', 40_001],
  ['v3, 64 KiB clusters, zlib compressed', 5003],
  ['v3, 128 KiB clusters, extended L2', 3001],
  ['v3, the disk itself beside three snapshots', 1999],
  ['v3, raw external data file', 3001],
  ['LUKS, 4 KiB clusters', 1999],
  ['LUKS, 512 B clusters', 61, 4096],
  ['a LUKS overlay on a LUKS base', 3001],
  ['v2, 4 KiB clusters', 3001],
];

describe('four threads that write the same clusters', () => {
  for (const [name, stripe, region = Number.MAX_SAFE_INTEGER] of CASES) {
    describe(name, () => {
      const scratch = useScratch();

      it('leave a clean image in which every byte is the one that was written last', async () => {
        const image = variants.find((variant) => variant.name === name)!.build(scratch.dir);
        const { secretFile, secretFormat = 'raw' } = image;
        const secret = secretFile === undefined ? undefined : readSecret(secretFile, secretFormat);
        const content = fs.readFileSync(image.expected);
        const shadow = new SharedArrayBuffer(content.length);
        Buffer.from(shadow).set(content);

        const layers = openLayers(image.image, { secret, writable: true });
        const disk = await attachDisk(layers);
        const order = {
          layers,
          threads: THREADS,
          stripe,
          region,
          operations: OPERATIONS,
          seed: SEED,
          shadow,
        };
        await Promise.all(Array.from({ length: THREADS }, (_, thread) => runWorker({ ...order, thread })));
        disk.close();
        checkImage(image.source);
        const read = fs.readFileSync(convertToRaw(image.source, path.basename(image.expected)));
        if (!read.equals(Buffer.from(shadow))) throw new Error('the reference reads something else');
      });
    });
  }
});

function runWorker(order: StripedOrder): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(WORKER, { workerData: order });
    worker.once('message', () => resolve());
    worker.once('error', reject);
  });
}
