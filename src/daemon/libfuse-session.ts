/** The libfuse transport as a session: everything runs in the main thread. */
import fs from 'node:fs';
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { mountLibfuse } from '../fuse/libfuse.js';
import { abortConnection, mountedAt, unmountKernel } from '../fuse/mount-linux.js';
import type { Session, SessionOptions } from './session.js';

/**
 * libfuse tells nobody that its loop ended, but it closes its descriptor of /dev/fuse then; so that is looked at:
 * milliseconds. The mount table would not do: after a lazy unmount users may still have the disk open.
 */
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
  const before = fuseDescriptors();
  await mountLibfuse(new DiskFs(disk, fsOptions), options, onFailure);
  const descriptor = fuseDescriptors().find((fd) => !before.includes(fd));
  const device = mountedAt(mountpoint)?.device ?? '';

  let finish: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const poll = setInterval(() => {
    if (descriptor !== undefined && isFuse(descriptor)) return;
    clearInterval(poll);
    finish();
  }, POLL_INTERVAL);
  const unmount = (lazy: boolean): void => unmountKernel(mountpoint, lazy);
  return { device, ended, unmount, abort: () => abortConnection(device) };
}

/** The open descriptors of this process that are /dev/fuse. */
function fuseDescriptors(): string[] {
  return fs.readdirSync('/proc/self/fd').filter(isFuse);
}

/** Takes no descriptor, of which there may be none left. */
function isFuse(fd: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse';
  } catch {
    return false; // The descriptor that listed them, or one that was closed.
  }
}
