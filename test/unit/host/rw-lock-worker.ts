/** The other threads of the lock's tests. */
import { parentPort, workerData } from 'node:worker_threads';
import { RwLock } from '../../../src/host/rw-lock.js';

export interface Task {
  readonly role:
    | 'write'
    | 'read'
    | 'meet'
    | 'log-shared'
    | 'log-exclusive'
    | 'acquire-shared'
    | 'acquire-exclusive';
  readonly lock: SharedArrayBuffer;
  /** Plain counters that only the lock protects: two that are always equal, violations, a log. */
  readonly data: SharedArrayBuffer;
  readonly rounds: number;
}

const { role, lock: memory, data, rounds } = workerData as Task;
const lock = new RwLock(memory);
const words = new Int32Array(data);

function append(mark: number): void {
  words[3 + Atomics.add(words, 2, 1)] = mark;
}

function perform(): void {
  switch (role) {
    case 'write':
      for (let round = 0; round < rounds; round++) {
        lock.acquireExclusive();
        const value = words[0]!;
        words[0] = value + 1;
        words[1] = words[1]! + 1;
        lock.releaseExclusive();
      }
      break;
    case 'read':
      for (let round = 0; round < rounds; round++) {
        lock.acquireShared();
        if (words[0] !== words[1]) Atomics.add(words, 2, 1);
        lock.releaseShared();
      }
      break;
    case 'meet':
      lock.acquireShared();
      Atomics.add(words, 0, 1);
      Atomics.notify(words, 0);
      for (let seen = Atomics.load(words, 0); seen < rounds; seen = Atomics.load(words, 0))
        Atomics.wait(words, 0, seen);
      lock.releaseShared();
      break;
    case 'log-shared':
      lock.acquireShared();
      append(1);
      lock.releaseShared();
      break;
    case 'log-exclusive':
      lock.acquireExclusive();
      append(2);
      lock.releaseExclusive();
      break;
    case 'acquire-shared':
      lock.acquireShared();
      break;
    case 'acquire-exclusive':
      lock.acquireExclusive();
      break;
  }
}

try {
  perform();
  parentPort?.postMessage('done');
} catch (error) {
  parentPort?.postMessage((error as { kind?: string }).kind ?? String(error));
}
