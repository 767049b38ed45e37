/** A thread that reads the first bytes of a disk from a host that hangs: it posts when it does, and what it read. */
import { parentPort, workerData } from 'node:worker_threads';
import { FileStorage } from '../../src/host/file-storage.js';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';

export interface GatedRead {
  readonly layers: Layers;
  /** One word, 0 while reads hang. */
  readonly gate: SharedArrayBuffer;
  readonly length: number;
  /** Bytes of the reads that hang: all of the data, or an L2 slice. */
  readonly hangs: number;
}

const { layers, gate, length, hangs } = workerData as GatedRead;

class GatedStorage extends FileStorage {
  override read(target: Buffer, at: number, count: number, position: number): number {
    const read = super.read(target, at, count, position);
    if (count === hangs) {
      parentPort!.postMessage('hangs');
      // Later ones do not hang.
      Atomics.wait(new Int32Array(gate), 0, 0);
    }
    // Tables are as they were when the read began, data as they are at its end: whatever is worse.
    return hangs === length ? super.read(target, at, count, position) : read;
  }
}

const disk = await attachDisk(layers, (file) => new GatedStorage(file));
const content = Buffer.alloc(length);
disk.read(content, 0, length, 0);
parentPort!.postMessage(content);
