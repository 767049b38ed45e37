/**
 * What is known of each mount besides the kernel's mount table: a small file in a directory that belongs to the mounting
 * user. It tells which process serves the mount. Its name holds that process besides the device number: the kernel gives
 * the number of an unmounted file system to the next, while its daemon still brings the last writes to the image.
 */
import path from 'node:path';
import fs from '../fs.js';
import { isLoopDevice, type LoopDevice } from '../host/loop-device.js';
import { mountTable } from '../host/mounts.js';
import { processStartTime, userOfProcess } from '../host/processes.js';
import { TRANSPORTS, type Transport } from './config.js';
import { inOwnDirectories, inOwnDirectory, namesIn } from './state-directory.js';

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
  /** Undefined in what an earlier version wrote. */
  readonly readOnly?: boolean;
  readonly transport: Transport;
  readonly threads: number;
  /** The loop device that the disk is attached to, when the daemon did that. */
  readonly loop?: LoopDevice;
  /** Why the last writes may not have reached the image; only after the unmount. */
  readonly failure?: string;
  readonly log: string | undefined;
}

/** Of one file, of a text in it, and of files for one device: what others write is not believed to be reasonable. */
const MAX_STATE_BYTES = 64 * 1024;
const MAX_TEXT = 8192;
/** Disks of a user that are looked at. */
const MAX_DISKS = 256;
const MAX_STATES = 100;

/** How long why a daemon failed is kept for who unmounts: milliseconds. */
const FAILURE_LIFETIME = 10 * 60_000;

const FRESH = '.new';

/** What this process wrote last: it is removed by its name, for there may be no free descriptor. */
let ownFile: string | undefined;

function fileName(device: string, pid: number): string {
  return `${prefix(device)}${pid}.json`;
}

function prefix(device: string): string {
  return `${device.replace(':', '-')}.`;
}

/** @throws Qcow2fsError `host-io` when there is no place for it */
export function writeState(device: string, state: MountState): void {
  inOwnDirectory((directory) => {
    sweep(directory, device);
    const file = path.join(directory, fileName(device, state.pid));
    const fresh = `${file}${FRESH}`;
    try {
      fs.writeFileSync(fresh, `${JSON.stringify(state)}\n`, { mode: 0o600 });
      fs.renameSync(fresh, file);
      ownFile = fs.realpathSync(file);
    } catch (error) {
      fs.rmSync(fresh, { force: true });
      throw error;
    }
  });
}

/**
 * Removes what killed daemons left of mounts that are gone, and failures that were never read.
 * @param own the caller's: what other processes wrote about it is about an earlier mount with the same number
 */
function sweep(directory: string, own: string): void {
  const mounted = new Set(mountTable().map(({ device }) => device.replace(':', '-')));
  mounted.delete(own.replace(':', '-'));
  for (const name of namesIn(directory).filter((one) => one.endsWith('.json'))) {
    const file = path.join(directory, name);
    const state = readStateFile(file, process.getuid!());
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
    if (!stat.isFile() || stat.uid !== userId) return undefined;
    const bytes = Buffer.alloc(MAX_STATE_BYTES + 1);
    const length = fs.readSync(fd, bytes, 0, bytes.length, 0);
    if (length > MAX_STATE_BYTES) return undefined;
    const state: unknown = JSON.parse(bytes.toString('utf8', 0, length));
    return isMountState(state) && isCredible(state, userId) ? state : undefined;
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
  const { readOnly } = value as Partial<MountState>;
  return (
    [image, mountpoint, disk, startTime].every(isText) &&
    TRANSPORTS.some((known) => known === transport) &&
    (loop === undefined || isLoopDevice(loop)) &&
    (readOnly === undefined || typeof readOnly === 'boolean') &&
    [pid, since, size, threads].every((number) => Number.isSafeInteger(number) && number! >= 0) &&
    [failure, log].every((text) => text === undefined || isText(text))
  );
}

const isText = (value: unknown): boolean => typeof value === 'string' && value.length <= MAX_TEXT;

/** Users tell of their own processes: nobody is to wait for that of somebody else. */
function isCredible(state: MountState, userId: number): boolean {
  return !isAlive(state) || [userId, undefined].includes(userOfProcess(state.pid));
}

/** Removes what process `pid` of the user wrote of its mount. */
export function removeState(device: string, userId: number, pid: number): void {
  inOwnDirectories(userId, (directory) => {
    fs.rmSync(path.join(directory, fileName(device, pid)), { force: true });
  });
}

/** As `removeState`, for the calling process. */
export function removeOwnState(device: string): void {
  if (ownFile !== undefined) fs.rmSync(ownFile, { force: true });
  removeState(device, process.getuid!(), process.pid);
}

/** The state of a user's mount; undefined when there is none that this process may read. */
export function readState(device: string, userId: number): MountState | undefined {
  const states: MountState[] = [];
  inOwnDirectories(userId, (directory) => {
    const names = namesIn(directory).filter(
      (name) => name.startsWith(prefix(device)) && name.endsWith('.json'),
    );
    for (const name of names.slice(0, MAX_STATES)) {
      const state = readStateFile(path.join(directory, name), userId);
      if (state !== undefined) states.push(state);
    }
  });
  // A daemon writes its failure when nothing is mounted any more: the number is another mount's by then.
  return states.filter(({ failure }) => failure === undefined).sort((a, b) => b.since - a.since)[0];
}

/** All that a user has mounted, with the device of each, as far as this process may read it. */
export function statesOf(userId: number): { readonly device: string; readonly state: MountState }[] {
  const states: { device: string; state: MountState }[] = [];
  inOwnDirectories(userId, (directory) => {
    for (const name of namesIn(directory).slice(0, MAX_DISKS)) {
      const [, major, minor, pid] = /^(\d+)-(\d+)\.(\d+)\.json$/.exec(name) ?? [];
      const state = major === undefined ? undefined : readStateFile(path.join(directory, name), userId);
      if (String(state?.pid) === pid) states.push({ device: `${major}:${minor}`, state: state! });
    }
  });
  return states;
}

/**
 * Why the last writes of a mount that was served by process `pid` may be lost; undefined when they are not. To be asked
 * when the process has ended: one that ends in order removes its state, or leaves its failure there.
 */
export function readFailure(device: string, userId: number, pid: number): string | undefined {
  const name = fileName(device, pid);
  const state = inOwnDirectories(userId, (directory) => readStateFile(path.join(directory, name), userId));
  if (state === undefined || state.readOnly === true) return undefined;
  return state.failure ?? (isAlive(state) ? undefined : `its daemon (process ${pid}) was killed`);
}

export function isAlive(state: MountState): boolean {
  return processStartTime(state.pid) === state.startTime;
}
