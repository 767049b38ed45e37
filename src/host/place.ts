/** A file that a name leads to, whatever becomes of the name and its links. */
import fs, { type Stats } from '../fs.js';
import { O_PATH, type Refused, type Root, Walk } from './walk.js';

export type { Root } from './walk.js';

export interface Place {
  /** Where it lies, symbolic links resolved. */
  readonly real: string;
  readonly stat: Stats;
  /** The path by which it is opened: what is opened is what was looked at, where the system is Linux. */
  readonly path: string;
  /** Whether it lies in a file system that is mounted where this process can see it. */
  isMountedHere(): boolean;
  close(): void;
}

/**
 * Where a name leads, found without touching anything outside of the roots. The caller compares where that really lies
 * with the roots once more: directories may be moved meanwhile.
 * @param name absolute
 * @throws a system error
 */
export function openPlace(name: string, roots: readonly Root[]): Place | Refused {
  const walk = new Walk(name, roots);
  try {
    const end = walk.end();
    if ('refused' in end) return end;
    return holdPlace(end.path);
  } finally {
    walk.close();
  }
}

/** Where a name of the user leads. @throws a system error */
export function holdPlace(name: string): Place {
  return process.platform === 'linux' ? pinned(name) : named(name);
}

/** The descriptor that is looked at is the one that is used, so no later change of a link can matter. */
function pinned(link: string): Place {
  const fd = fs.openSync(link, O_PATH);
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
function named(name: string): Place {
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
