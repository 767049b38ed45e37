/** The libfuse transport as a session: everything runs in the main thread. */
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { mountLibfuse } from '../fuse/libfuse.js';
import { fuseDescriptors, isFuseDescriptor } from '../host/fuse-device.js';
import { assertProcesses } from '../host/limits.js';
import { announceMountpoint } from './launch.js';
import { OwnMount, type Session, type SessionOptions, SPARE_PROCESSES, whenOpen } from './session.js';

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
  if (mountpoint.singleFile) {
    throw new Qcow2fsError(
      'mountpoint',
      `${mountpoint.path}: the libfuse transport needs a directory; leave out --transport libfuse`,
    );
  }
  await assertProcesses(SPARE_PROCESSES);
  const before = fuseDescriptors();
  announceMountpoint(mountpoint.path);
  await mountLibfuse(new DiskFs(disk, fsOptions), { ...options, mountpoint: mountpoint.path }, onFailure);
  const descriptor = fuseDescriptors().find((fd) => !before.includes(fd));
  const mount = new OwnMount(Number(descriptor), mountpoint);
  // libfuse mounts by the path.
  if (mount.entry !== undefined && mount.entry.mountpoint !== fs.readlinkSync(mountpoint.at)) {
    mount.unmount(true);
    throw new Qcow2fsError(
      'mountpoint',
      `${mountpoint.path}: a directory above it was renamed during the mount; try again`,
    );
  }

  let finish: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const poll = setInterval(() => {
    if (descriptor !== undefined && isFuseDescriptor(descriptor)) return;
    clearInterval(poll);
    finish();
  }, POLL_INTERVAL);
  return whenOpen(mount, fsOptions.name, ended);
}
