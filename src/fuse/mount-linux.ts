/**
 * Mounting and unmounting on Linux: root by mount(2), everybody else by fusermount3, which passes the descriptor of
 * /dev/fuse back over a socket (libfuse, lib/mount.c).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import * as libc from '../host/libc.js';
import { createTrace } from '../trace.js';
import { MOUNT_FLAGS, type MountWord } from './mount-words.js';
import { S_IFDIR, S_IFREG } from './protocol.js';

const debug = createTrace('mount');

export const FILE_SYSTEM_TYPE = 'fuse.qcow2fs';
const DEVICE = '/dev/fuse';
const HELPERS = ['fusermount3', 'fusermount'] as const;

export interface MountOptions {
  readonly mountpoint: string;
  /** The mountpoint is a regular file, which becomes the disk. */
  readonly singleFile: boolean;
  /** What mount tables show as the source: the image. */
  readonly source: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly words: readonly MountWord[];
}

/**
 * @returns the descriptor of /dev/fuse on which the kernel will send requests
 * @throws Qcow2fsError `fuse` or `mountpoint`
 */
export function mountKernel(options: MountOptions): number {
  if (process.geteuid?.() === 0) {
    try {
      return mountDirectly(options);
    } catch (error) {
      // Root of a container without CAP_SYS_ADMIN is an ordinary user here.
      if (errnoName(error) !== 'EPERM') throw error;
    }
  }
  return mountByHelper(options);
}

/**
 * @param lazy detach now, end when the last user is gone
 * @throws Qcow2fsError `mountpoint`
 */
export function unmountKernel(mountpoint: string, lazy: boolean): void {
  if (process.geteuid?.() === 0) {
    try {
      libc.unmount(mountpoint, libc.UMOUNT_NOFOLLOW | (lazy ? libc.MNT_DETACH : 0));
      return;
    } catch (error) {
      if (errnoName(error) !== 'EPERM') throw unmountFailure(mountpoint, hostReason(error));
    }
  }
  const result = runHelper(['-u', ...(lazy ? ['-z'] : []), '--', mountpoint], []);
  if (result.status !== 0) throw unmountFailure(mountpoint, result.message);
}

function unmountFailure(mountpoint: string, reason: string): Qcow2fsError {
  const busy = /busy/i.test(reason);
  const hint = busy ? `: the disk is in use; see who: fuser -vm ${mountpoint}, losetup -a` : `: ${reason}`;
  return new Qcow2fsError('mountpoint', `${mountpoint}: cannot unmount${hint}`);
}

function openDevice(): number {
  try {
    return fs.openSync(DEVICE, fs.constants.O_RDWR);
  } catch (error) {
    throw deviceFailure(error);
  }
}

/**
 * Another descriptor for the requests of a mounted file system, which does not block; a reply goes back through the
 * descriptor that gave the request. @returns undefined where the device cannot be opened once more
 */
export function cloneDevice(fd: number): number | undefined {
  let clone: number | undefined;
  try {
    clone = fs.openSync(DEVICE, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    libc.cloneFuseDevice(clone, fd);
    return clone;
  } catch (error) {
    debug('no second descriptor: %s', hostReason(error));
    if (clone !== undefined) fs.closeSync(clone);
    return undefined;
  }
}

function deviceFailure(error: unknown): Qcow2fsError {
  const code = errnoName(error);
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return new Qcow2fsError('fuse', `${DEVICE} is missing: load the kernel module first: modprobe fuse`);
  }
  const hint = code === 'EACCES' ? '; let users open it: chmod 0666 /dev/fuse' : '';
  return new Qcow2fsError('fuse', `${DEVICE}: cannot open: ${hostReason(error)}${hint}`);
}

function mountDirectly(options: MountOptions): number {
  const { mountpoint, singleFile, source, readOnly, allowOther, words } = options;
  const fd = openDevice();
  const rootMode = (singleFile ? S_IFREG : S_IFDIR).toString(8);
  const data = [
    `fd=${fd}`,
    `rootmode=${rootMode}`,
    `user_id=${process.getuid!()}`,
    `group_id=${process.getgid!()}`,
    'default_permissions',
    ...(allowOther ? ['allow_other'] : []),
  ];
  const always = libc.MS_NOSUID | libc.MS_NODEV | (readOnly ? libc.MS_RDONLY : 0);
  const flags = words.reduce((all, word) => all | MOUNT_FLAGS[word], always);
  try {
    debug('mount(2) on %s: %s', mountpoint, data.join(','));
    libc.mount(source, mountpoint, FILE_SYSTEM_TYPE, flags, data.join(','));
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    if (errnoName(error) === 'EPERM') throw error;
    if (errnoName(error) === 'ENODEV') throw deviceFailure(error);
    throw new Qcow2fsError('mountpoint', `${mountpoint}: cannot mount: ${hostReason(error)}`);
  }
}

function mountByHelper(options: MountOptions): number {
  const { mountpoint, source, readOnly, allowOther } = options;
  // The helper says little about a device that it cannot open, so ask first.
  fs.closeSync(openDevice());
  const words: string[] = [
    readOnly ? 'ro' : 'rw',
    'nosuid',
    'nodev',
    'default_permissions',
    `fsname=${source.replace(/[\\,]/g, '\\$&')}`,
    'subtype=qcow2fs',
    ...(allowOther ? ['allow_other'] : []),
    ...options.words,
  ];
  const [ours, theirs] = libc.socketPair();
  try {
    const result = runHelper(['-o', words.join(','), '--', mountpoint], [theirs]);
    if (result.status !== 0) {
      throw new Qcow2fsError('mountpoint', `${mountpoint}: cannot mount: ${result.message}`);
    }
    const fd = libc.receiveDescriptor(ours);
    if (fd === undefined) throw new Qcow2fsError('fuse', 'fusermount3 passed no descriptor of /dev/fuse');
    return fd;
  } finally {
    fs.closeSync(ours);
    fs.closeSync(theirs);
  }
}

interface HelperResult {
  readonly status: number | null;
  readonly message: string;
}

/** @param descriptors inherited as descriptor 3 and up; the first one is where the helper answers */
function runHelper(args: readonly string[], descriptors: readonly number[]): HelperResult {
  for (const helper of HELPERS) {
    debug('%s %s', helper, args.join(' '));
    const result = spawnSync(helper, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...descriptors],
      env: { ...process.env, _FUSE_COMMFD: '3', LC_ALL: 'C' },
    });
    if (errnoName(result.error) === 'ENOENT') continue;
    if (result.error)
      throw new Qcow2fsError('fuse', `${helper} cannot be started: ${hostReason(result.error)}`);
    const lines = result.stderr.toString().trim().split('\n');
    const message = (lines[0] ?? '').replace(/^fusermount3?: /, '') || `${helper} failed`;
    return { status: result.status, message };
  }
  throw new Qcow2fsError('fuse', 'fusermount3 is not installed: apt-get install fuse3');
}

/** A mounted qcow2fs, as the kernel's mount table tells. */
export interface MountEntry {
  readonly mountpoint: string;
  readonly source: string;
  /** `major:minor`, unique among the mounts of the machine. */
  readonly device: string;
  readonly userId: number | undefined;
  readonly readOnly: boolean;
}

/** All mounts of qcow2fs, oldest first (proc(5), /proc/self/mountinfo). */
export function mountTable(): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    const [type, source, superOptions] = (right ?? '').split(' ');
    if (left === undefined || type !== FILE_SYSTEM_TYPE) continue;
    const [, , device, , mountpoint, mountOptions] = left.split(' ');
    const userId = /(?:^|,)user_id=(\d+)/.exec(superOptions ?? '')?.[1];
    entries.push({
      mountpoint: unescapeOctal(mountpoint ?? ''),
      source: unescapeOctal(source ?? ''),
      device: device ?? '',
      userId: userId === undefined ? undefined : Number(userId),
      readOnly: (mountOptions ?? '').split(',').includes('ro'),
    });
  }
  return entries;
}

/** What is mounted at exactly this path, on top; `path` has no symbolic links. */
export function mountedAt(path: string): MountEntry | undefined {
  return mountTable().findLast((entry) => entry.mountpoint === path);
}

/** Aborts a connection whose mount cannot be detached: every user gets ENOTCONN. Tries what is permitted. */
export function abortConnection(device: string): void {
  const connection = device.split(':')[1];
  try {
    fs.writeFileSync(`/sys/fs/fuse/connections/${connection}/abort`, '1');
  } catch {
    // fusectl may not be mounted; the caller ends the process, which ends the connection too.
  }
}

/** As root: lets the kernel read ahead more than the 128 KiB that FUSE mounts start with. */
export function raiseReadAhead(device: string, bytes: number): void {
  try {
    fs.writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(bytes / 1024));
  } catch {
    // Ordinary users keep the default.
  }
}

/** Blanks and backslashes are written as octal numbers. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
