/** Waiting for the daemon of a disk that is unmounted, until it has released the image, or for disks that are mounted nowhere in sight. */
import { setTimeout as delay } from 'node:timers/promises';
import { type DetachedDisk, detachedDisks } from '../daemon/detached.js';
import { isAlive, type MountState, readFailure, removeState } from '../daemon/state.js';
import { Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { findMountUser, type MountUser } from '../host/mount-users.js';
import { mountTable } from '../host/mounts.js';

const POLL_INTERVAL = 5;
/** Milliseconds that a daemon may take to release the image. */
const PATIENCE = 60_000;
/** Milliseconds that others may use the disk that is unmounted; some only look into it for a moment. */
const PATIENCE_WITH_USERS = 3000;

/**
 * @throws Qcow2fsError `mountpoint` when the daemon goes on, with who keeps it from ending; `host-io` when the last
 * writes may be lost
 */
export async function waitForRelease({ device, userId, state }: DetachedDisk): Promise<void> {
  const start = Date.now();
  let looks = 0;
  while (isAlive(state)) {
    const waited = Date.now() - start;
    if (waited > PATIENCE_WITH_USERS * (looks + 1)) {
      looks++;
      const user = mountTable().some((entry) => entry.device === device) ? undefined : findMountUser(device);
      if (user !== undefined) throw stillServed(state, describeUser(user));
    }
    if (waited > PATIENCE)
      throw stillServed(state, `still runs after ${PATIENCE / 1000} s; see losetup -a, and ${logOf(state)}`);
    await delay(POLL_INTERVAL);
  }
  const failure = readFailure(device, userId, state.pid);
  // A daemon that was killed, or failed at the end, could not do it.
  removeState(device, userId, state.pid);
  if (failure !== undefined) {
    throw new Qcow2fsError(
      'host-io',
      `${state.image}: unmounted, but the last writes may be lost: ${failure}`,
    );
  }
}

/**
 * Waits for disks of this user that were mounted at a path, or are in another mount namespace. What other users say of
 * theirs is not waited for.
 * @returns whether there were any
 * @throws as `waitForRelease`
 */
export async function waitForDetached(place: string): Promise<boolean> {
  const places = [place, realPath(place)];
  const found = detachedDisks().filter(
    ({ state, userId }) =>
      userId === process.getuid!() && (places.includes(state.mountpoint) || places.includes(state.disk)),
  );
  for (const disk of found) await waitForRelease(disk);
  return found.length > 0;
}

function realPath(place: string): string {
  try {
    return fs.realpathSync(place);
  } catch {
    return place;
  }
}

function stillServed({ mountpoint, pid }: MountState, what: string): Qcow2fsError {
  return new Qcow2fsError('mountpoint', `${mountpoint}: unmounted, but its daemon (process ${pid}) ${what}`);
}

function describeUser({ pid, name, mountpoint }: MountUser): string {
  const who = `process ${pid} (${name})`;
  if (mountpoint === undefined) return `still serves ${who}, which has it open; end that first`;
  // No command: what runs in a mount namespace of somebody else is what its owner put there.
  return `still serves the mount namespace of ${who}, which has it on ${mountpoint}; end that process first`;
}

function logOf({ log }: MountState): string {
  return log ?? "its standard error or the system's log";
}
