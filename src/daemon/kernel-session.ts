/** The kernel transport: worker threads that share one descriptor of /dev/fuse and one image. */
import { Worker } from 'node:worker_threads';
import { fromErrorRecord, Qcow2fsError } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import {
  abortConnection,
  mountedAt,
  mountKernel,
  raiseReadAhead,
  unmountKernel,
} from '../fuse/mount-linux.js';
import { RwLock } from '../host/rw-lock.js';
import type { Layers } from '../qcow2/chain.js';
import type { Session, SessionOptions } from './session.js';
import type { ServeMessage, WorkerData, WorkerMessage } from './worker.js';

/** Bytes that the kernel reads ahead of a sequential reader, where the daemon may say so: one largest request. */
const READ_AHEAD = 1024 * 1024;

export async function startKernelSession(
  layers: Layers,
  fsOptions: DiskFsOptions,
  options: SessionOptions,
): Promise<Session> {
  const data: WorkerData = { layers, fsOptions };
  const pool = Array.from({ length: options.threads }, () => new ServingThread(data));
  let fd: number;
  try {
    await Promise.all(pool.map(({ attached }) => attached));
    fd = mountKernel({ ...options, readOnly: true });
  } catch (error) {
    for (const { worker } of pool) void worker.terminate();
    throw error;
  }
  for (const { worker } of pool) worker.postMessage({ fd } satisfies ServeMessage);

  const device = mountedAt(options.mountpoint)?.device ?? '';
  raiseReadAhead(device, READ_AHEAD);
  const abort = (): void => abortConnection(device);
  const unmount = (lazy: boolean): void => unmountKernel(options.mountpoint, lazy);
  const failed = Promise.race(pool.map(({ failure }) => failure)).catch((error: unknown) => {
    // What the thread left half done must not be used, and nobody may wait for it.
    for (const layer of layers)
      if (layer.kind === 'qcow2') new RwLock(layer.parameters.metadata.lock).poison();
    try {
      unmount(true);
    } catch {
      // Already unmounted.
    }
    abort();
    throw error;
  });
  const finished = Promise.all(pool.map(({ exited }) => exited)).then(() => undefined);
  return { device, ended: Promise.race([failed, finished]), unmount, abort };
}

class ServingThread {
  readonly worker: Worker;
  /** Settles when the thread can serve. */
  readonly attached: Promise<void>;
  /** Never fulfilled; rejects when the thread broke down. */
  readonly failure: Promise<never>;
  /** Fulfilled when the thread ended well. */
  readonly exited: Promise<void>;

  constructor(data: WorkerData) {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data });
    this.worker = worker;
    let broken = false;
    this.failure = new Promise((_, reject) => {
      const fail = (error: Error): void => {
        broken = true;
        reject(error);
      };
      worker.on('message', (message: WorkerMessage) => {
        if (message.type === 'failed') fail(fromErrorRecord(message.error));
      });
      worker.on('error', (error) => fail(new Qcow2fsError('internal', `a thread died: ${error.message}`)));
      worker.on('exit', (code) => {
        if (code !== 0) fail(new Qcow2fsError('internal', `a thread died with exit code ${code}`));
      });
    });
    this.failure.catch(() => {});
    const attached = new Promise<void>((resolve) => {
      worker.on('message', (message: WorkerMessage) => {
        if (message.type === 'attached') resolve();
      });
    });
    this.attached = Promise.race([attached, this.failure]);
    this.attached.catch(() => {});
    this.exited = new Promise((resolve) => {
      worker.on('exit', () => {
        if (!broken) resolve();
      });
    });
  }
}
