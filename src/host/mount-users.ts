/**
 * Who keeps a file system alive that is mounted nowhere in this process's sight: processes whose mount namespace has it,
 * and processes that have something on it open. As far as this user may look, which is to say at its own processes, or
 * at all for root. Linux only; elsewhere nobody is found.
 *
 * Of a process that waits for a file system that hangs, its memory's maps, command line and status can be waited for
 * without end, so they are not read: what is only mapped is not found.
 */
import fs from '../fs.js';
import { deviceOf } from './libc.js';
import { FILE_SYSTEM_TYPE, unescapeOctal } from './mounts-linux.js';

export interface MountUser {
  readonly pid: number;
  /** The first 15 bytes of the program's name. */
  readonly name: string;
  /** Where its mount namespace has the file system; undefined where it only has something on it open. */
  readonly mountpoint: string | undefined;
}

/** @param device `major:minor` of the file system */
export function findMountUser(device: string): MountUser | undefined {
  const processes = list('/proc').filter((name) => /^\d+$/.test(name));
  return findNamespace(processes, device) ?? findOpener(processes, device);
}

function findNamespace(processes: readonly string[], device: string): MountUser | undefined {
  const seen = new Set<string>();
  for (const pid of processes) {
    const namespace = link(`/proc/${pid}/ns/mnt`);
    // Threads of the kernel have no program: nobody can end them.
    if (namespace === undefined || seen.has(namespace) || link(`/proc/${pid}/exe`) === undefined) continue;
    seen.add(namespace);
    for (const line of read(`/proc/${pid}/mountinfo`).split('\n')) {
      const [, , mounted, , mountpoint = ''] = line.split(' ', 5);
      // The number of a file system that has ended is given to the next.
      if (mounted === device && line.includes(` - ${FILE_SYSTEM_TYPE} `))
        return userOf(pid, unescapeOctal(mountpoint));
    }
  }
  return undefined;
}

function findOpener(processes: readonly string[], device: string): MountUser | undefined {
  const found = processes.find((pid) => hasOpen(pid, device));
  return found === undefined ? undefined : userOf(found, undefined);
}

function hasOpen(pid: string, device: string): boolean {
  const open = list(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  return [`/proc/${pid}/cwd`, `/proc/${pid}/root`, ...open].some((path) => deviceOf(path) === device);
}

function userOf(pid: string, mountpoint: string | undefined): MountUser {
  return { pid: Number(pid), name: read(`/proc/${pid}/comm`).trim() || 'a process', mountpoint };
}

/** Processes and descriptors come and go, and those of others are closed to us. */
function list(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function link(path: string): string | undefined {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}

function read(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
