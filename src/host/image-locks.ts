/**
 * The locks by which QEMU's processes keep off each other's images (QEMU block/file-posix.c, "Shared permissions").
 * An opener says what it does and what it bears with locks on single bytes of the file:
 *
 *   BYTE     HELD BY
 *   100 + i  whoever uses permission i
 *   200 + i  whoever does not share permission i
 *
 * All are shared locks, which never exclude each other; a conflict is found by asking for the opposite bytes.
 */

import { errnoName, Qcow2fsError } from '../errors.js';
import { createTrace } from '../trace.js';
import { othersLock, releaseBytes, shareBytes } from './libc.js';
import { findLockHolders } from './lock-holders.js';

const debug = createTrace('locks');

const USED = 100;
const UNSHARED = 200;
/** Number 2, writing what is there already, is nothing that an opener of images does. */
const Permission = { consistentRead: 0, write: 1, resize: 3 } as const;
const { consistentRead, write, resize } = Permission;

/** What each kind of opener uses and does not share; QEMU's own for a disk that is nobody else's. */
const MODES = {
  write: { used: [consistentRead, write, resize], unshared: [write, resize] },
  read: { used: [consistentRead], unshared: [write, resize] },
  'force-share': { used: [consistentRead], unshared: [] },
  'ignore-locks': { used: [], unshared: [] },
} as const;

/**
 * `write` stands nobody beside it but `force-share`; `read`, for backing files too, stands other readers;
 * `force-share` stands writers as well, and may read what they have half written. `ignore-locks` neither asks for locks
 * nor takes any: everybody who may read an image can hold all of them.
 */
export type LockMode = keyof typeof MODES;
export type ReadLock = Exclude<LockMode, 'write'>;

export interface LockedFile {
  /** Opened for reading at least. */
  readonly fd: number;
  readonly path: string;
  readonly device: bigint;
  readonly inode: bigint;
}

/**
 * Takes the locks for the life of the open file description; none is left after a failure. Does nothing where the
 * system is not Linux. Readers go on where the file system knows no such locks.
 *
 * @throws Qcow2fsError `locked` when somebody else has the file open in a way that does not fit, `host-io` when a
 * writer cannot lock
 */
export function lockImage(file: LockedFile, mode: LockMode): void {
  if (process.platform !== 'linux') return;
  const { used, unshared } = MODES[mode];
  const own = [...used.map((permission) => USED + permission), ...unshared.map((p) => UNSHARED + p)];
  const opposite = [...used.map((permission) => UNSHARED + permission), ...unshared.map((p) => USED + p)];
  let conflicts: number[];
  try {
    // All locks before the first look: of two that start at once, at least one sees the other.
    for (const byte of own) shareBytes(file.fd, byte, 1);
    conflicts = opposite.filter((byte) => othersLock(file.fd, byte, 1));
  } catch (error) {
    release(file.fd, own);
    // No answer of the system: without locks nobody goes on because of that.
    if (error instanceof Qcow2fsError) throw error;
    const code = errnoName(error);
    // An exclusive lock on our bytes: no QEMU, but somebody who wants to be alone.
    if (code === 'EAGAIN' || code === 'EACCES')
      throw inUse(file, own, () => `which wants it for itself; end that first, ${REGARDLESS}`);
    if (mode === 'write') {
      const what = `cannot be locked (${code}); QEMU could write it at the same time`;
      throw new Qcow2fsError(
        'host-io',
        `${file.path}: ${what}; move it to a local disk, or mount it with -r`,
      );
    }
    debug('%s: no locks: %s', file.path, code);
    return;
  }
  if (conflicts.length > 0) {
    // Ours go first, so that what is found in our own process is another description.
    release(file.fd, own);
    throw inUse(file, conflicts, remedy);
  }
  debug('%s: locked to %s', file.path, mode);
}

function release(fd: number, bytes: readonly number[]): void {
  for (const byte of bytes) {
    try {
      releaseBytes(fd, byte, 1);
    } catch (error) {
      debug('cannot release byte %d: %s', byte, errnoName(error));
    }
  }
}

/** @param advise what the holder does, and what the user can do, by the bytes that are held */
function inUse(
  file: LockedFile,
  conflicts: readonly number[],
  advise: (held: readonly number[], holder: string | undefined) => string,
): Qcow2fsError {
  const [holder] = findLockHolders(file, conflicts);
  if (holder?.pid === process.pid) {
    const what = 'is twice in the chain of this image, and would be written; mount it read-only with -r';
    return new Qcow2fsError('locked', `${file.path}: ${what}`);
  }
  const who = holder === undefined ? 'another process' : `${holder.name} (process ${holder.pid})`;
  const advice = advise(holder?.bytes ?? conflicts, holder?.name);
  return new Qcow2fsError('locked', `${file.path}: in use by ${who}, ${advice}`);
}

const REGARDLESS = 'or look at it read-only all the same: --ignore-locks (mount: with -r)';

function remedy(held: readonly number[], holder: string | undefined): string {
  if (held.includes(USED + write) || held.includes(USED + resize)) {
    const first = howToEnd(holder) ?? 'shut it down first';
    return `which writes it; ${first}, or look at it read-only: --force-share (mount: with -r)`;
  }
  if (held.includes(UNSHARED + consistentRead)) {
    return `which lets nobody read it meanwhile; wait until that is done, ${REGARDLESS}`;
  }
  const first = howToEnd(holder) ?? 'end that first';
  return `which must not see it change; ${first}, or mount it read-only with -r`;
}

/** Of processes of this program. */
function howToEnd(holder: string | undefined): string | undefined {
  if (holder === 'qcow2fs') return 'unmount it first (qcow2fs list tells where)';
  return holder?.startsWith('qcow2fs ') ? 'wait until that is done' : undefined;
}
