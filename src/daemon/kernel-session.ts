/** The kernel transport: threads that share one descriptor of /dev/fuse and one image. */

import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { MAX_READ_AHEAD } from '../fuse/dispatch.js';
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
import type { ThreadPool } from './thread-pool.js';

/** @throws Qcow2fsError; nothing is mounted then */
export async function startKernelSession(
  threads: ThreadPool,
  layers: Layers,
  fsOptions: DiskFsOptions,
  /** Of a `FailureLog`. */
  failures: SharedArrayBuffer,
  options: SessionOptions & { readonly readOnly: boolean },
): Promise<Session> {
  await threads.attach(layers, fsOptions, failures);
  const fd = mountKernel(options);
  const served = threads.serve(fd);

  const device = mountedAt(options.mountpoint)?.device ?? '';
  raiseReadAhead(device, MAX_READ_AHEAD);
  const unmount = (lazy: boolean): void => unmountKernel(options.mountpoint, lazy);
  const abort = (): void => abortConnection(device);
  const ended = served.catch((error: unknown) => {
    // What the thread left half done must not be used, and nobody may wait for it.
    for (const layer of layers)
      if (layer.kind === 'qcow2') new RwLock(layer.parameters.metadata.lock).poison();
    try {
      unmount(true);
    } catch {
      // Already unmounted.
    }
    throw error;
  });
  return { device, ended, unmount, abort };
}
