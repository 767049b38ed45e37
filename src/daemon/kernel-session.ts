/** The kernel transport: threads that share one descriptor of /dev/fuse and one image. */
import fs from 'node:fs';
import path from 'node:path';
import { hostReason } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { MAX_READ_AHEAD } from '../fuse/dispatch.js';
import { mountKernel, raiseReadAhead } from '../fuse/mount-linux.js';
import { abortConnection, mountedAt, unmount } from '../host/mounts.js';
import { RwLock } from '../host/rw-lock.js';
import type { Layers } from '../qcow2/chain.js';
import { locksOf } from '../qcow2/parameters.js';
import { log } from './log.js';
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
  size: () => number,
): Promise<Session> {
  await threads.attach(layers, fsOptions, failures);
  const fd = mountKernel(options);
  const served = threads.serve(fd);
  if (!options.readOnly) threads.onOverrun(sizeRestorer(options, fsOptions.name, size));
  if (!options.readOnly && options.singleFile)
    await showAttributes(options.mountpoint, size(), fsOptions.mtimeMs);

  const device = mountedAt(options.mountpoint)?.device ?? '';
  raiseReadAhead(device, MAX_READ_AHEAD);
  const abort = (): void => abortConnection(device);
  const ended = served.catch((error: unknown) => {
    // What the thread left half done must not be used, and nobody may wait for it.
    for (const layer of layers) {
      if (layer.kind === 'qcow2') for (const lock of locksOf(layer.parameters)) new RwLock(lock).poison();
    }
    try {
      unmount(options.mountpoint, true);
    } catch {
      // Already unmounted.
    }
    throw error;
  });
  return { device, ended, unmount: (lazy) => unmount(options.mountpoint, lazy), abort };
}

/**
 * A kernel that caches writes knows size and time of a file better than whoever serves it; but those of the root of a
 * file system, which it makes before it asks anybody, are zero until they are set.
 */
async function showAttributes(file: string, size: number, mtimeMs: number): Promise<void> {
  try {
    await fs.promises.truncate(file, size);
    // As everywhere here, there is no time before 1970.
    const seconds = Math.max(0, mtimeMs / 1000);
    await fs.promises.utimes(file, seconds, seconds);
  } catch (error) {
    log(`${file}: its size or time could not be set: ${hostReason(error)}`);
  }
}

/**
 * The page cache takes writes beyond the end and tells nobody; when it is refused at last, the kernel goes on with the
 * wrong size. It takes the right one from a truncation, which passes for one that changes nothing.
 */
function sizeRestorer(
  { mountpoint }: SessionOptions,
  name: string | undefined,
  size: () => number,
): () => void {
  const file = name === undefined ? mountpoint : path.join(mountpoint, name);
  let busy = false;
  return () => {
    if (busy) return;
    busy = true;
    void fs.promises
      .truncate(file, size())
      .catch((error: unknown) => log(`${file}: its size could not be set right: ${hostReason(error)}`))
      .finally(() => {
        busy = false;
      });
  };
}
