/**
 * A thread that writes, erases and reads its own stripes of a disk at random, beside others that do the same with
 * theirs. Stripes are smaller than clusters and begin anywhere, so the threads meet in every cluster.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';
import { randomNumbers } from '../support/random-guest.js';

export interface StripedOrder {
  readonly layers: Layers;
  readonly thread: number;
  readonly threads: number;
  readonly stripe: number;
  /** Bytes at the start of the disk that the threads keep to. */
  readonly region: number;
  readonly operations: number;
  readonly seed: number;
  /** What the disk must hold; each thread keeps its own stripes of it up to date. */
  readonly shadow: SharedArrayBuffer;
}

const { layers, thread, threads, stripe, region, operations, seed, shadow } = workerData as StripedOrder;
const expected = Buffer.from(shadow);
const disk = await attachDisk(layers);
const random = randomNumbers(seed * 1000 + thread);
const buffer = Buffer.alloc(stripe);
const stripes = Math.floor(Math.min(region, disk.size) / stripe);

for (let i = 0; i < operations; i++) {
  const mine = Math.floor((random() * stripes) / threads) * threads + thread;
  if (mine >= stripes) continue;
  const skip = Math.floor(random() * stripe);
  const offset = mine * stripe + skip;
  const length = 1 + Math.floor(random() * (stripe - skip));
  const dice = random();
  if (dice < 0.6) {
    buffer.fill(1 + ((i * threads + thread) % 255), 0, length);
    disk.write(buffer, 0, length, offset);
    buffer.copy(expected, offset, 0, length);
  } else if (dice < 0.7) {
    disk.discard(offset, length);
    expected.fill(0, offset, offset + length);
  } else if (dice < 0.78) {
    disk.zero(offset, length);
    expected.fill(0, offset, offset + length);
  } else if (dice < 0.99) {
    disk.read(buffer, 0, length, offset);
    if (buffer.compare(expected, offset, offset + length, 0, length) !== 0) {
      throw new Error(`thread ${thread}: wrong bytes at ${offset}, ${length} bytes, operation ${i}`);
    }
  } else {
    disk.flush();
  }
}
parentPort!.postMessage('done');
