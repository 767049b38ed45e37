/** The kernel transport: threads that share one descriptor of /dev/fuse and one image. */
import type { Disk } from '../disk.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { MAX_READ_AHEAD } from '../fuse/dispatch.js';
import { mountKernel, raiseReadAhead } from '../fuse/mount-linux.js';
import { assertProcesses, assertRoom } from '../host/limits.js';
import { RwLock } from '../host/rw-lock.js';
import type { Layers } from '../qcow2/chain.js';
import { locksOf } from '../qcow2/parameters.js';
import { KernelInode } from './kernel-inode.js';
import { announceMountpoint } from './launch.js';
import { FailureLog } from './log.js';
import { OwnMount, type Session, type SessionOptions, SPARE_PROCESSES, whenOpen } from './session.js';
import type { ThreadPool } from './thread-pool.js';

/** What a mount opens besides: a second device for each thread, and what starting programs takes. */
const SPARE_DESCRIPTORS = 32;
/** What the heaps of all threads may grow by. */
const SPARE_BYTES = 256 * 1024 * 1024;

/**
 * Everything that can fail for lack of something is done before the mount is made.
 * @param failures of a `FailureLog`
 * @throws Qcow2fsError; nothing is mounted then
 */
export async function startKernelSession(
  threads: ThreadPool,
  layers: Layers,
  disk: Disk,
  fsOptions: DiskFsOptions,
  failures: SharedArrayBuffer,
  options: SessionOptions,
): Promise<Session> {
  const { mountpoint } = options;
  await threads.attach(layers, fsOptions, failures);
  assertRoom(SPARE_DESCRIPTORS, SPARE_BYTES);
  await assertProcesses(SPARE_PROCESSES);
  const { path, at, singleFile } = mountpoint;
  announceMountpoint(path);
  const fd = mountKernel({ ...options, mountpoint: path, at, singleFile, readOnly: disk.readOnly });
  const mount = new OwnMount(fd, mountpoint);
  const served = threads.serve(fd);
  if (fsOptions.writeBack) {
    const inode = new KernelInode(
      mount,
      options.source,
      fsOptions.name,
      new DiskFs(disk, fsOptions),
      new FailureLog(failures),
    );
    threads.onOverrun(inode.restoreSize);
    threads.onDeferredReply(inode.sendLater);
    if (singleFile) await inode.show();
  }
  raiseReadAhead(mount.device, MAX_READ_AHEAD);
  const ended = served.catch((error: unknown) => {
    // What the thread left half done must not be used, and nobody may wait for it.
    for (const layer of layers) {
      if (layer.kind === 'qcow2') for (const lock of locksOf(layer.parameters)) new RwLock(lock).poison();
    }
    try {
      mount.unmount(true);
    } catch {
      // Already unmounted.
    }
    throw error;
  });
  return whenOpen(mount, fsOptions.name, ended);
}
