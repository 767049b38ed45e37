/** What /proc tells of mounts, of the daemons that serve them, and of other processes. Needs no rights. */
import fs from 'node:fs';
import { isDaemon } from './qcow2fs.js';
import { waitUntil } from './wait.js';

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

/** Asks them to unmount, and waits until they have ended. */
export async function stopDaemons(mountpoint: string): Promise<void> {
  for (const pid of daemonsOf(mountpoint)) process.kill(pid, 'SIGTERM');
  await waitUntil(`nobody serves ${mountpoint}`, () => daemonsOf(mountpoint).length === 0);
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
