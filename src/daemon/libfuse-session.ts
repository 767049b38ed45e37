/** The libfuse transport as a session: everything runs in the main thread. */
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { mountLibfuse } from '../fuse/libfuse.js';
import { abortConnection, mountedAt, unmountKernel } from '../fuse/mount-linux.js';
import type { Session, SessionOptions } from './session.js';

/** libfuse tells nobody that it was unmounted from outside, so the mount table is looked at: milliseconds. */
const POLL_INTERVAL = 200;

export async function startLibfuseSession(
  disk: Disk,
  fsOptions: DiskFsOptions,
  options: SessionOptions,
  onFailure: (error: unknown) => void,
): Promise<Session> {
  const { mountpoint } = options;
  if (options.singleFile) {
    throw new Qcow2fsError(
      'mountpoint',
      `${mountpoint}: the libfuse transport needs a directory; leave out --transport libfuse`,
    );
  }
  await mountLibfuse(new DiskFs(disk, fsOptions), options, onFailure);
  const device = mountedAt(mountpoint)?.device ?? '';

  let finish: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const poll = setInterval(() => {
    if (mountedAt(mountpoint)?.device === device) return;
    clearInterval(poll);
    finish();
  }, POLL_INTERVAL);
  const unmount = (lazy: boolean): void => unmountKernel(mountpoint, lazy);
  return { device, ended, unmount, abort: () => abortConnection(device) };
}
