/** A thread that writes parts of clusters over a backing file, one after another, until it is stopped. */
import { parentPort, workerData } from 'node:worker_threads';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';

export interface PartWriter {
  readonly layers: Layers;
  /** One word, 1 to stop. */
  readonly stop: SharedArrayBuffer;
  /** Guest offsets, multiples of the cluster size. */
  readonly from: number;
  readonly to: number;
  readonly clusterSize: number;
}

const { layers, stop, from, to, clusterSize } = workerData as PartWriter;
const disk = await attachDisk(layers);
const bytes = Buffer.alloc(100, 9);
parentPort!.postMessage('writes');
for (
  let at = from;
  Atomics.load(new Int32Array(stop), 0) === 0;
  at = at + clusterSize < to ? at + clusterSize : from
)
  disk.write(bytes, 0, bytes.length, at + 200);
