/**
 * The directory in which the daemons of a user tell what `list` and `umount` need to know. In /tmp anybody may have made
 * it first, and its owner can change it while it is used: so it is looked at, held open, and reached by its descriptor.
 */

import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs, { type BigIntStats } from '../fs.js';
import { tryLockByte } from '../host/libc.js';
import { holdPlace, type Place } from '../host/place.js';
import { runtimeDirectories } from '../host/runtime-directories.js';

const OTHERS_WRITE = 0o022;
/** What others put into a directory must not keep us busy. */
const MAX_ENTRIES = 10_000;
const CLAIMS = 'mountpoints.lock';

/** @returns what the first directory gives that is the user's own and has anything to give */
export function inOwnDirectories<T>(
  userId: number,
  action: (directory: string) => T | undefined,
): T | undefined {
  for (const name of runtimeDirectories(userId)) {
    const place = openOwn(name, userId);
    if (typeof place === 'string') continue;
    try {
      const found = action(place.path);
      if (found !== undefined) return found;
    } finally {
      place.close();
    }
  }
  return undefined;
}

/**
 * In the best directory of this user, which is made if it is not there.
 * @throws Qcow2fsError `host-io` when there is none
 */
export function inOwnDirectory<T>(action: (directory: string) => T): T {
  const userId = process.getuid!();
  let failure: unknown;
  for (const name of runtimeDirectories(userId)) {
    try {
      fs.mkdirSync(name, { mode: 0o700 });
    } catch {
      // It is there, or cannot be made.
    }
    const place = openOwn(name, userId);
    if (typeof place === 'string') continue;
    try {
      return action(place.path);
    } catch (error) {
      failure = error;
    } finally {
      place.close();
    }
  }
  const problem =
    problemOfDirectories(userId) ?? `the state of mounts cannot be kept: ${hostReason(failure)}`;
  throw new Qcow2fsError('host-io', problem);
}

/** Why a user has no directory; undefined when there is one. */
export function problemOfDirectories(userId: number): string | undefined {
  const problems: string[] = [];
  for (const name of runtimeDirectories(userId)) {
    const place = openOwn(name, userId);
    if (typeof place !== 'string') {
      place.close();
      return undefined;
    }
    problems.push(`${name} ${place}`);
  }
  return `the state of mounts has no directory (${problems.join('; ')}), so umount cannot wait for the daemon; make one of them: yours, mode 0700`;
}

/** Names in a directory, of which there may be any number. */
export function namesIn(directory: string): string[] {
  const names: string[] = [];
  try {
    const open = fs.opendirSync(directory);
    try {
      for (let entry = open.readSync(); entry !== null && names.length < MAX_ENTRIES; entry = open.readSync())
        names.push(entry.name);
    } finally {
      open.closeSync();
    }
  } catch {
    // The directory of another user is closed to all but root.
  }
  return names;
}

/**
 * Keeps the other daemons of this user from a mountpoint. In a file that nobody else can open: a lock on the mountpoint
 * itself could be held by everybody who may look at it.
 * @returns undefined when another one has it, or else a function that gives it back
 */
export function claimPlace({ dev, ino }: BigIntStats): (() => void) | undefined {
  let fd: number;
  try {
    const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
    fd = inOwnDirectory((own) => fs.openSync(path.join(own, CLAIMS), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600));
  } catch {
    // Two that mount at the same moment may stack, where the mount itself is not refused.
    return () => {};
  }
  const release = (): void => fs.closeSync(fd);
  if (tryLockByte(fd, Number(BigInt.asUintN(52, (dev << 32n) ^ ino)))) return release;
  release();
  return undefined;
}

/** @returns why it is not the user's own, as words that follow its name */
function openOwn(name: string, userId: number): Place | string {
  let place: Place | undefined;
  try {
    const link = fs.lstatSync(name);
    place = holdPlace(name);
    const { stat } = place;
    const problem = !stat.isDirectory()
      ? 'is not a directory'
      : stat.ino !== link.ino || stat.dev !== link.dev
        ? 'is a link'
        : stat.uid !== userId
          ? `belongs to user ${stat.uid}`
          : (stat.mode & OTHERS_WRITE) !== 0
            ? 'may be written by others'
            : undefined;
    if (problem === undefined) return place;
    place.close();
    return problem;
  } catch (error) {
    return `cannot be opened: ${hostReason(error)}`;
  }
}
