/**
 * Who holds locks on a file (proc(5), /proc/PID/fdinfo). The kernel names no process for locks of open file
 * descriptions, neither to fcntl(2) nor in /proc/locks, but each descriptor's own entry lists them.
 */
import fs from '../fs.js';

export interface LockHolder {
  readonly pid: number;
  /** The first 15 bytes of the program's name, or that of this program, with its command unless it mounts. */
  readonly name: string;
  /** Those of the bytes asked for that it holds. */
  readonly bytes: readonly number[];
}

/** `lock: 1: OFDLCK ADVISORY READ -1 fe:00:2146411 100 101`, the range inclusive. */
const LOCK = /^lock:\s+\d+: (?:OFDLCK|POSIX)\s.*\s(\d+) (\d+|EOF)$/gm;

/** What Node runs in a process of this program, of any version. */
const OWN_SCRIPT = /\/(?:(?:daemon|cli)\/main\.js|bin\/qcow2fs)$/;

/** They end by themselves; whatever else is a mount. */
const PASSING_COMMANDS: ReadonlySet<string> = new Set(['check', 'hash', 'map', 'info']);

/**
 * The processes that hold locks on some of the bytes, those that hold most first: as far as this user may look,
 * which is to say its own processes, or all for root. Costs a read for each descriptor in the system.
 */
export function findLockHolders(
  file: { readonly device: bigint; readonly inode: bigint },
  bytes: readonly number[],
): LockHolder[] {
  const holders: LockHolder[] = [];
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const held = new Set(list(`/proc/${entry}/fdinfo`).flatMap((fd) => locksOf(entry, fd, file, bytes)));
    if (held.size > 0) {
      holders.push({
        pid: Number(entry),
        name: nameOf(entry),
        bytes: bytes.filter((byte) => held.has(byte)),
      });
    }
  }
  return holders.sort((a, b) => b.bytes.length - a.bytes.length);
}

function locksOf(
  pid: string,
  fd: string,
  file: { readonly device: bigint; readonly inode: bigint },
  bytes: readonly number[],
): number[] {
  const held: number[] = [];
  for (const [, first, last] of read(`/proc/${pid}/fdinfo/${fd}`).matchAll(LOCK)) {
    const end = last === 'EOF' ? Number.MAX_SAFE_INTEGER : Number(last);
    held.push(...bytes.filter((byte) => byte >= Number(first) && byte <= end));
  }
  // The device that the line names is not that of stat(2) on file systems with subvolumes or layers.
  return held.length > 0 && isFile(`/proc/${pid}/fd/${fd}`, file) ? held : [];
}

function isFile(path: string, file: { readonly device: bigint; readonly inode: bigint }): boolean {
  try {
    const { dev, ino } = fs.statSync(path, { bigint: true });
    return dev === file.device && ino === file.inode;
  } catch {
    return false;
  }
}

function nameOf(pid: string): string {
  const [, ...words] = read(`/proc/${pid}/cmdline`).split('\0');
  // Options of Node come first.
  const script = words.findIndex((word) => !word.startsWith('-'));
  if (OWN_SCRIPT.test(words[script] ?? '')) {
    const command = words[script + 1] ?? '';
    return PASSING_COMMANDS.has(command) ? `qcow2fs ${command}` : 'qcow2fs';
  }
  return read(`/proc/${pid}/comm`).trim() || 'a process';
}

/** Processes and descriptors come and go, and those of others are closed to us. */
function list(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
