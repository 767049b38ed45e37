/** A file that a name leads to, whatever becomes of the name and its links. */
import fs from 'node:fs';

/** Linux: opens a place in the file system without touching what is there. */
export const O_PATH = 0o10000000;

export interface Place {
  /** Where it lies, symbolic links resolved. */
  readonly real: string;
  readonly stat: fs.Stats;
  /** The path by which it is opened: what is opened is what was looked at, where the system is Linux. */
  readonly path: string;
  /** Whether it lies in a file system that is mounted where this process can see it. */
  isMountedHere(): boolean;
  close(): void;
}

/** @throws a system error */
export function openPlace(name: string): Place {
  return process.platform === 'linux' ? openPinned(name) : openNamed(name);
}

/** The descriptor that is looked at is the one that is used, so no later change of a link can matter. */
function openPinned(name: string): Place {
  const fd = fs.openSync(name, O_PATH);
  const close = (): void => fs.closeSync(fd);
  try {
    const path = descriptorPath(fd);
    const real = fs.readlinkSync(path);
    return { real, stat: fs.fstatSync(fd), path, isMountedHere: () => isMountedHere(fd), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** A path that leads to what a descriptor of this process has open. Linux only. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Where there is no such descriptor, a link may change between the look and the use. */
function openNamed(name: string): Place {
  const [real, stat] = [fs.realpathSync(name), fs.statSync(name)];
  return { real, stat, path: name, isMountedHere: () => true, close: () => {} };
}

/**
 * The kernel tells the path of a file within the mounts of whoever has it: a file that is reached through
 * /proc/PID/root may lie in a container, or outside of a chroot, under a path that looks like one of ours.
 *
 * In a chroot that is no mount of its own, other files of the same mount cannot be told apart.
 */
function isMountedHere(fd: number): boolean {
  const id = mountIdOf(fd);
  if (id === undefined) return true;
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return mounts.some((line) => line.startsWith(`${id} `)) || id === mountOfTop();
}

/** The ID of the mount that a file lies in; undefined where the kernel does not tell. Sends no request to a file system. */
export function mountIdOf(fd: number): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
}

/** The mount of / is not listed in a chroot into a part of it. */
function mountOfTop(): string | undefined {
  const fd = fs.openSync('/', 'r');
  try {
    return mountIdOf(fd);
  } finally {
    fs.closeSync(fd);
  }
}
