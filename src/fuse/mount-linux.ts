/**
 * Mounting on Linux: root by mount(2), everybody else by fusermount3, which passes the descriptor of /dev/fuse back over
 * a socket (libfuse, lib/mount.c). Unmounting, which both transports do: see host/mounts.ts.
 */
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import * as libc from '../host/libc.js';
import { FILE_SYSTEM_TYPE, runHelper } from '../host/mounts-linux.js';
import { createTrace } from '../trace.js';
import { MAX_TRANSFER } from './dispatch.js';
import { MOUNT_FLAGS, type MountWord } from './mount-words.js';
import { S_IFDIR, S_IFREG } from './protocol.js';

const debug = createTrace('mount');

const DEVICE = '/dev/fuse';

/** With pages of 64 KiB the kernel would ask for more than a reply has room for. */
const MAX_READ = `max_read=${MAX_TRANSFER}`;

export interface MountOptions {
  /** Its path, for messages and for the helper. */
  readonly mountpoint: string;
  /** Leads to the mountpoint itself: root mounts on it, wherever its path leads. */
  readonly at: string;
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
  const { mountpoint, at, singleFile, source, readOnly, allowOther, words } = options;
  const fd = openDevice();
  const rootMode = (singleFile ? S_IFREG : S_IFDIR).toString(8);
  const data = [
    `fd=${fd}`,
    `rootmode=${rootMode}`,
    `user_id=${process.getuid!()}`,
    `group_id=${process.getgid!()}`,
    'default_permissions',
    MAX_READ,
    ...(allowOther ? ['allow_other'] : []),
  ];
  const always = libc.MS_NOSUID | libc.MS_NODEV | (readOnly ? libc.MS_RDONLY : 0);
  const flags = words.reduce((all, word) => all | MOUNT_FLAGS[word], always);
  try {
    debug('mount(2) on %s: %s', mountpoint, data.join(','));
    libc.mount(source, at, FILE_SYSTEM_TYPE, flags, data.join(','));
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
    MAX_READ,
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

/** As root: lets the kernel read ahead more than the 128 KiB that FUSE mounts start with. */
export function raiseReadAhead(device: string, bytes: number): void {
  try {
    fs.writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, String(bytes / 1024));
  } catch {
    // Ordinary users keep the default.
  }
}
