/** What /proc tells about the processes behind a mount. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** The kernel counts CPU time in these, on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** The processes that hold `file` open: for an image, the daemons that serve it. */
export function holders(file: string): Set<number> {
  const found = new Set<number>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const fds = readdirSync(`/proc/${pid}/fd`);
      if (fds.some((fd) => readlink(`/proc/${pid}/fd/${fd}`) === file)) found.add(Number(pid));
    } catch {
      // It has ended meanwhile, or belongs to somebody else.
    }
  }
  return found;
}

function readlink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** False for a zombie too. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** The most memory the process has held so far, in bytes (0 if it is gone). */
export function peakRss(pid: number): number {
  try {
    const line = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(line?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** The CPU time the process has used so far, its threads and the kernel on its behalf included, in seconds. */
export function cpuSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses is the second field, and may contain anything; utime and stime are 14 and 15.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}
