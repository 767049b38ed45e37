/**
 * What is known of each mount besides the kernel's mount table: a small file in a directory that belongs to the mounting
 * user. It tells which process serves the mount. Its name holds that process besides the device number: the kernel gives
 * the number of an unmounted file system to the next, while its daemon still brings the last writes to the image.
 */
import fs from 'node:fs';
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import { isLoopDevice, type LoopDevice } from '../host/loop-device.js';
import { mountTable } from '../host/mounts.js';
import { processStartTime } from '../host/processes.js';
import { runtimeDirectories } from '../host/runtime-directories.js';
import type { Transport } from './config.js';

export interface MountState {
  readonly pid: number;
  /** Tells the process from a later one with the same number: see host/processes.ts. */
  readonly startTime: string;
  /** When it was mounted: microseconds of the monotonic clock. */
  readonly since: number;
  readonly image: string;
  readonly mountpoint: string;
  /** Path of the raw disk. */
  readonly disk: string;
  /** Bytes. */
  readonly size: number;
  readonly transport: Transport;
  readonly threads: number;
  /** The loop device that the disk is attached to, when the daemon did that. */
  readonly loop?: LoopDevice;
  /** Why the last writes may not have reached the image; only after the unmount. */
  readonly failure?: string;
  readonly log: string | undefined;
}

const MAX_STATE_BYTES = 64 * 1024;

/** How long why a daemon failed is kept for who unmounts: milliseconds. */
const FAILURE_LIFETIME = 10 * 60_000;

function fileName(device: string, pid: number): string {
  return `${prefix(device)}${pid}.json`;
}

function prefix(device: string): string {
  return `${device.replace(':', '-')}.`;
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
  for (const directory of runtimeDirectories(userId)) {
    try {
      fs.mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      reason = error;
    }
    if (!isOwn(directory, userId)) continue;
    sweep(directory, userId);
    const file = path.join(directory, fileName(device, state.pid));
    fs.writeFileSync(`${file}.new`, `${JSON.stringify(state)}\n`, { mode: 0o600 });
    fs.renameSync(`${file}.new`, file);
    return;
  }
  throw new Qcow2fsError(
    'host-io',
    `cannot keep the mount's state below /run or /tmp: ${hostReason(reason)}`,
  );
}

/** Removes what killed daemons left of mounts that are gone, too, and failures that nobody asked for. */
function sweep(directory: string, userId: number): void {
  const mounted = new Set(mountTable().map(({ device }) => device.replace(':', '-')));
  const entries = fs.readdirSync(directory, { withFileTypes: true });
  for (const { name } of entries.filter((entry) => entry.isFile() && entry.name.endsWith('.json'))) {
    const file = path.join(directory, name);
    const state = readStateFile(file, userId);
    if (state === undefined || isAlive(state) || mounted.has(name.split('.', 1)[0]!)) continue;
    const age = Date.now() - (fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (state.failure === undefined || age > FAILURE_LIFETIME) fs.rmSync(file, { force: true });
  }
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
  const { pid, startTime, since, image, mountpoint, disk, size, transport, threads, failure, loop, log } =
    value as Partial<MountState>;
  return (
    [image, mountpoint, disk, startTime, transport].every((text) => typeof text === 'string') &&
    (loop === undefined || isLoopDevice(loop)) &&
    [pid, since, size, threads].every((number) => Number.isSafeInteger(number) && number! >= 0) &&
    [failure, log].every((text) => text === undefined || typeof text === 'string')
  );
}

/** Removes what process `pid` of the user wrote of its mount. */
export function removeState(device: string, userId: number, pid: number): void {
  for (const directory of runtimeDirectories(userId)) {
    if (isOwn(directory, userId)) fs.rmSync(path.join(directory, fileName(device, pid)), { force: true });
  }
}

/** As `removeState`, for the calling process. */
export function removeOwnState(device: string): void {
  removeState(device, process.getuid!(), process.pid);
}

/** The state of a user's mount; undefined when there is none that this process may read. */
export function readState(device: string, userId: number): MountState | undefined {
  const states = runtimeDirectories(userId).flatMap((directory) =>
    statesIn(directory, userId, prefix(device)),
  );
  return states.sort((a, b) => b.since - a.since)[0];
}

function statesIn(directory: string, userId: number, start: string): MountState[] {
  if (!isOwn(directory, userId)) return [];
  return namesIn(directory)
    .filter((name) => name.startsWith(start) && name.endsWith('.json'))
    .flatMap((name) => readStateFile(path.join(directory, name), userId) ?? []);
}

/** The directory of another user is closed to all but root. */
function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

/** Why the last writes of a mount that was served by process `pid` may be lost; undefined when they are not. */
export function readFailure(device: string, userId: number, pid: number): string | undefined {
  for (const directory of runtimeDirectories(userId)) {
    if (!isOwn(directory, userId)) continue;
    const state = readStateFile(path.join(directory, fileName(device, pid)), userId);
    if (state !== undefined) return state.failure;
  }
  return undefined;
}

export function isAlive(state: MountState): boolean {
  return processStartTime(state.pid) === state.startTime;
}
