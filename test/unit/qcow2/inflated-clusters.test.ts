import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import zlib from 'node:zlib';
import { expect } from 'chai';
import { allocateCompression } from '../../../src/qcow2/compressed.js';
import { allocateInflatedClusters, InflatedClusters, NO_SLOT } from '../../../src/qcow2/inflated-clusters.js';
import { Random } from '../../support/random.js';
import type { InflatingTask } from './inflating-worker.js';

const SCRIPT = new URL('./inflating-worker.js', import.meta.url);
const CLUSTER = 4096;
/** More than are kept. */
const CLUSTERS = 300;
const THREADS = 3;

function shared(bytes: Buffer): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(bytes.length);
  bytes.copy(Buffer.from(memory));
  return memory;
}

describe('the inflated clusters of an image', () => {
  const random = new Random(5);
  // Half noise, half nothing: quickly made, and long enough to take a while.
  const contents = Array.from({ length: CLUSTERS }, () =>
    Buffer.concat([random.bytes(CLUSTER / 2), Buffer.alloc(CLUSTER / 2, random.u32())]),
  );
  const streams = contents.map((bytes) => zlib.deflateRawSync(bytes));
  const starts = [0];
  for (const { length } of streams) starts.push(starts.at(-1)! + length);

  async function readByThreads(how: InflatingTask['how']): Promise<{ wrong: number; reads: number }[]> {
    const common = {
      compression: allocateCompression({ compressionType: 'zlib', clusterSize: CLUSTER }),
      stored: shared(Buffer.concat(streams)),
      starts,
      content: shared(Buffer.concat(contents)),
      how,
      meeting: new SharedArrayBuffer(4),
      threads: THREADS,
    };
    return Promise.all(
      Array.from({ length: THREADS }, async (_, seed) => {
        const worker = new Worker(SCRIPT, { workerData: { ...common, seed } satisfies InflatingTask });
        const exited = once(worker, 'exit');
        const [answer] = await once(worker, 'message');
        await exited;
        return answer;
      }),
    );
  }

  it('are inflated once, however many threads want them at the same time', async () => {
    const answers = await readByThreads('together');
    expect(answers.map(({ wrong }) => wrong)).to.deep.equal(Array(THREADS).fill(0));
    expect(answers.reduce((sum, { reads }) => sum + reads, 0)).to.equal(CLUSTERS);
  });

  it('are right while other threads take their place', async () => {
    const answers = await readByThreads('at random');
    expect(answers.map(({ wrong }) => wrong)).to.deep.equal(Array(THREADS).fill(0));
  });

  it('have no place left when all are being read', () => {
    const clusters = new InflatedClusters(allocateInflatedClusters(2 * 1024 * 1024));
    for (let index = 0; index < clusters.slots; index++) clusters.publish(clusters.claim(index, 1, false));
    expect(clusters.claim(99, 1, false)).to.equal(NO_SLOT);
    const slot = clusters.find(1, 1);
    clusters.release(slot);
    expect(clusters.claim(99, 1, false)).to.equal(NO_SLOT);
    clusters.release(slot);
    expect(clusters.claim(99, 1, false)).to.equal(slot);
    expect(clusters.find(1, 1)).to.equal(NO_SLOT);
  });

  it('stay until they are read when they were fetched before, and go when nobody reads them', () => {
    const clusters = new InflatedClusters(allocateInflatedClusters(CLUSTER));
    const put = (offset: number, isAhead: boolean): void => {
      const slot = clusters.claim(offset, 1, isAhead);
      clusters.publish(slot);
      clusters.release(slot);
    };
    const half = clusters.slots / 2;
    for (let offset = 0; offset < half; offset++) put(offset, true);
    for (let offset = 0; offset < half; offset++) {
      clusters.release(clusters.find(offset, 1));
      put(half + offset, true);
    }
    for (let offset = half; offset < 2 * half; offset++) {
      put(half + offset, true);
      const slot = clusters.find(offset, 1);
      expect(slot, `cluster ${offset}`).not.to.equal(NO_SLOT);
      clusters.release(slot);
    }
    for (let offset = 1000; offset < 1000 + 3 * clusters.slots; offset++) put(offset, true);
    expect(clusters.find(2 * half, 1)).to.equal(NO_SLOT);
  });

  it('forget what could not be inflated', () => {
    const clusters = new InflatedClusters(allocateInflatedClusters(CLUSTER));
    const slot = clusters.claim(7, 1, false);
    expect(clusters.claim(7, 1, false)).to.equal(NO_SLOT);
    clusters.abandon(slot);
    expect(clusters.find(7, 1)).to.equal(NO_SLOT);
    expect(clusters.claim(7, 1, false)).not.to.equal(NO_SLOT);
  });

  it('stay when they are read again and again', () => {
    const clusters = new InflatedClusters(allocateInflatedClusters(CLUSTER));
    const put = (offset: number): void => {
      const slot = clusters.claim(offset, 1, false);
      clusters.publish(slot);
      clusters.release(slot);
    };
    put(0);
    for (let offset = 1; offset < 3 * clusters.slots; offset++) {
      const slot = clusters.find(0, 1);
      expect(slot, `before ${offset}`).not.to.equal(NO_SLOT);
      clusters.release(slot);
      put(offset);
    }
    expect(clusters.find(1, 1)).to.equal(NO_SLOT);
  });
});
