/**
 * Disks that are served, but mounted nowhere in this process's sight: unmounted lazily and still in use, mounted in other
 * mount namespaces only, or about to end.
 */
import { type MountEntry, mountTable } from '../host/mounts.js';
import { userOfProcess } from '../host/processes.js';
import { runtimeUsers } from '../host/runtime-directories.js';
import { isAlive, type MountState, readState, statesOf } from './state.js';

export interface DetachedDisk {
  /** `major:minor` */
  readonly device: string;
  readonly userId: number;
  readonly state: MountState;
}

/** Those of this user, or of all users for root. */
export function detachedDisks(): DetachedDisk[] {
  const mounted = mountTable();
  return runtimeUsers().flatMap((userId) =>
    statesOf(userId)
      .map((found) => ({ ...found, userId }))
      .filter((disk) => isServed(disk) && !mounted.some((entry) => isOf(entry, disk))),
  );
}

/** The file that says so belongs to the user, who may have written anything: no other user's process is believed. */
function isServed({ state, userId }: DetachedDisk): boolean {
  return userOfProcess(state.pid) === userId && isAlive(state);
}

/** A device number may be in use once more while the daemon of its former file system still ends. */
function isOf({ device, userId }: MountEntry, disk: DetachedDisk): boolean {
  return (
    device === disk.device && userId === disk.userId && readState(device, userId)?.pid === disk.state.pid
  );
}
