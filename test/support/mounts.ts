/** Mounts on any mountpoint, and the daemons that serve them as processes. */
import fs from 'node:fs';
import path from 'node:path';
import type { Defer } from './clean-up.js';
import { expectQcow2fs, isDaemon, type Outcome, qcow2fs, type RunAs } from './qcow2fs.js';
import { tool } from './run.js';

/** Mounts below this path, as the kernel knows them; `path` itself counts. */
export function mountsAt(place: string): string[] {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescaped(line.split(' ')[4] ?? ''))
    .filter((mountpoint) => mountpoint === place || mountpoint.startsWith(`${place}/`));
}

/** The kernel writes blanks as \\040 there. */
function unescaped(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Process IDs of the daemons that serve exactly this mountpoint. */
export function daemonsOf(mountpoint: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return isDaemon(words) && words.includes(mountpoint);
      } catch {
        return false;
      }
    })
    .map(Number)
    .filter(isRunning);
}

export function daemonOf(mountpoint: string): number {
  const found = daemonsOf(mountpoint);
  if (found.length !== 1) throw new Error(`${found.length} daemons serve ${mountpoint}`);
  return found[0]!;
}

/** A zombie has released everything and runs no more, unless other threads of it still do (proc(5), field 20). */
export function isRunning(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] !== 'X' && !(fields[0] === 'Z' && Number(fields[17]) <= 1);
  } catch {
    return false;
  }
}

/** What the descriptors of a running process lead to, by their paths in /proc; some may go meanwhile. */
export function openFilesOf(pid: number): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of fs.readdirSync(`/proc/${pid}/fd`)) {
    const fd = `/proc/${pid}/fd/${name}`;
    try {
      found.set(fd, fs.readlinkSync(fd));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}

export interface Mount {
  readonly mountpoint: string;
  /** What looks like the raw disk. */
  readonly disk: string;
  readonly log: string;
}

/**
 * Mounts read-only on a mountpoint of the caller's choice, and sees to its end: lazily unmounted after the test
 * when it is still there, its daemon killed when it still runs.
 */
export function mountOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, ['-r', ...args], image, mountpoint, runAs);
}

/** As `mountOn`, but the disk can be written. */
export function mountWritableOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, args, image, mountpoint, runAs);
}

function mountAny(
  defer: Defer,
  args: readonly string[],
  image: string,
  mountpoint: string,
  runAs: RunAs,
): Mount {
  const log = `${mountpoint}.log`;
  defer(() => endMount(mountpoint));
  expectQcow2fs(['mount', '--log', log, ...args, image, mountpoint], runAs);
  const disk = fs.statSync(mountpoint).isFile() ? mountpoint : path.join(mountpoint, 'disk.raw');
  return { mountpoint, disk, log };
}

/** A mount that may be refused; should it not be, it ends with the test. */
export function tryMount(
  defer: Defer,
  args: readonly string[],
  mountpoint: string,
  runAs: RunAs = {},
): Outcome {
  defer(() => endMount(mountpoint));
  return qcow2fs(['mount', ...args, mountpoint], runAs);
}

/** Whatever is left of a mount and its daemon goes. */
export function endMount(mountpoint: string): void {
  while (mountsAt(mountpoint).includes(mountpoint)) tool('umount', '-l', mountpoint);
  for (const pid of daemonsOf(mountpoint)) process.kill(pid, 'SIGKILL');
}

/**
 * A daemon that answers no more goes before anything that asks it: umount(8), close(2). To be deferred right after the
 * mount, and so to be done before its end.
 */
export function endDaemon(pid: number): void {
  if (isRunning(pid)) process.kill(pid, 'SIGKILL');
}

/** The lines of a daemon's log without time and process. */
export function logLines(log: string): string[] {
  return fs
    .readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/^\S+ qcow2fs\[\d+\]: /, ''));
}
