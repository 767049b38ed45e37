/**
 * What is known of each mount besides the kernel's mount table: a small file by device number, in a directory that
 * belongs to the mounting user. It tells which process serves the mount.
 */
import fs from 'node:fs';
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import type { Transport } from './config.js';

export interface MountState {
  readonly pid: number;
  /** Tells the process from a later one with the same number: clock ticks after boot (proc(5), field 22). */
  readonly startTime: string;
  readonly image: string;
  readonly mountpoint: string;
  /** Path of the raw disk. */
  readonly disk: string;
  /** Bytes. */
  readonly size: number;
  readonly transport: Transport;
  readonly threads: number;
  /** Why the last writes may not have reached the image; only after the unmount. */
  readonly failure?: string;
  readonly log: string | undefined;
}

const MAX_STATE_BYTES = 64 * 1024;

function fileName(device: string): string {
  return `${device.replace(':', '-')}.json`;
}

/** Where the user's daemons keep their state: the run-time directory if the system has one, else one in /tmp. */
function directories(userId: number): string[] {
  if (userId === 0) return ['/run/qcow2fs', '/tmp/qcow2fs-0'];
  return [`/run/user/${userId}/qcow2fs`, `/tmp/qcow2fs-${userId}`];
}

/** A directory in /tmp may have been made by anybody: it counts only if it is the user's own. */
function isOwn(directory: string, userId: number): boolean {
  try {
    const stat = fs.lstatSync(directory);
    return stat.isDirectory() && stat.uid === userId;
  } catch {
    return false;
  }
}

export function writeState(device: string, state: MountState): void {
  const userId = process.getuid!();
  let reason: unknown;
  for (const directory of directories(userId)) {
    try {
      fs.mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      reason = error;
    }
    if (!isOwn(directory, userId)) continue;
    const file = path.join(directory, fileName(device));
    fs.writeFileSync(`${file}.new`, `${JSON.stringify(state)}\n`, { mode: 0o600 });
    fs.renameSync(`${file}.new`, file);
    return;
  }
  throw new Qcow2fsError(
    'host-io',
    `cannot keep the mount's state below /run or /tmp: ${hostReason(reason)}`,
  );
}

/** Root reads what other users wrote here, so the file may be anything: a link, a FIFO, nonsense. */
function readStateFile(file: string, userId: number): MountState | undefined {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const stat = fs.fstatSync(fd);
    if (!stat.isFile() || stat.uid !== userId || stat.size > MAX_STATE_BYTES) return undefined;
    const state: unknown = JSON.parse(fs.readFileSync(fd, 'utf8'));
    return isMountState(state) ? state : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function isMountState(value: unknown): value is MountState {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, startTime, image, mountpoint, disk, size, transport, threads, failure, log } =
    value as Partial<MountState>;
  return (
    [image, mountpoint, disk, startTime, transport].every((text) => typeof text === 'string') &&
    [pid, size, threads].every((number) => Number.isSafeInteger(number) && number! >= 0) &&
    [failure, log].every((text) => text === undefined || typeof text === 'string')
  );
}

/** Removes what process `pid` of the user wrote; a new mount may have the same device number already. */
export function removeState(device: string, userId: number, pid: number): void {
  if (readState(device, userId)?.pid !== pid) return;
  for (const directory of directories(userId)) {
    if (isOwn(directory, userId)) fs.rmSync(path.join(directory, fileName(device)), { force: true });
  }
}

/** As `removeState`, for the calling process. */
export function removeOwnState(device: string): void {
  removeState(device, process.getuid!(), process.pid);
}

/** The state of a user's mount; undefined when there is none that this process may read. */
export function readState(device: string, userId: number): MountState | undefined {
  for (const directory of directories(userId)) {
    if (!isOwn(directory, userId)) continue;
    const state = readStateFile(path.join(directory, fileName(device)), userId);
    if (state !== undefined) return state;
  }
  return undefined;
}

/** The start time of a process, or undefined when there is none. */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command in parentheses may hold anything; field 3 follows it. A zombie has released everything, unless
    // other threads of it still run (field 20 counts them).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isDead = fields[0] === 'X' || (fields[0] === 'Z' && Number(fields[17]) <= 1);
    return isDead ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function isAlive(state: MountState): boolean {
  return processStartTime(state.pid) === state.startTime;
}
