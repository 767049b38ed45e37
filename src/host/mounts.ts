/**
 * What is mounted, and how it is unmounted: whatever the transport. Here alone it is decided by platform; a port adds a
 * `MountSystem`.
 */
import { Qcow2fsError } from '../errors.js';
import { linuxMounts } from './mounts-linux.js';

/** A mounted qcow2fs, as the kernel's mount table tells. */
export interface MountEntry {
  readonly mountpoint: string;
  /** What of the file system is there: `/`, or a file of it that was bound elsewhere. */
  readonly root: string;
  readonly source: string;
  /** `major:minor`, unique among the mounts of the machine. */
  readonly device: string;
  readonly userId: number | undefined;
  readonly readOnly: boolean;
}

export interface MountSystem {
  /** All mounts of qcow2fs, oldest first. */
  table(): MountEntry[];
  /**
   * @param lazy detach now, end when the last user is gone
   * @throws Qcow2fsError `mountpoint`
   */
  unmount(mountpoint: string, lazy: boolean): void;
  /** Aborts a connection whose mount cannot be detached: every user gets ENOTCONN. Tries what is permitted. */
  abort(device: string): void;
}

const SYSTEMS: Partial<Record<NodeJS.Platform, MountSystem>> = { linux: linuxMounts };

/** @throws Qcow2fsError `fuse` where nobody has written one yet */
function system(): MountSystem {
  const found = SYSTEMS[process.platform];
  if (found !== undefined) return found;
  throw new Qcow2fsError(
    'fuse',
    `qcow2fs cannot mount on ${process.platform} yet; info, check, map and hash need no mount`,
  );
}

/** All mounts of qcow2fs, oldest first. @throws Qcow2fsError `fuse` where the platform is not supported */
export function mountTable(): MountEntry[] {
  return system().table();
}

/** What is mounted at exactly this path, on top; `path` has no symbolic links. */
export function mountedAt(path: string): MountEntry | undefined {
  return mountTable().findLast((entry) => entry.mountpoint === path);
}

/** See `MountSystem`. */
export function unmount(mountpoint: string, lazy: boolean): void {
  system().unmount(mountpoint, lazy);
}

/** See `MountSystem`. */
export function abortConnection(device: string): void {
  system().abort(device);
}
