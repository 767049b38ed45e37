/** Another thread of the lookout's tests: stays away until it may come back, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { Lookout } from '../../../src/fuse/lookout.js';

export interface Task {
  readonly memory: SharedArrayBuffer;
  readonly thread: number;
  readonly relief: number;
}

const { memory, thread, relief } = workerData as Task;
parentPort!.postMessage('ready');
new Lookout(memory, thread, relief).stayAway();
