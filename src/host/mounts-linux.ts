/** The mounts of Linux: its table, and unmounting by umount2(2) for root and by fusermount3 for everybody else. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { shellWord } from '../printable.js';
import { createTrace } from '../trace.js';
import { commandLine } from './arguments.js';
import { MNT_DETACH, UMOUNT_NOFOLLOW, uniqueMountIdOf, unmount as unmountDirectly } from './libc.js';
import type { Connection, Held, MountEntry, MountSystem } from './mounts.js';
import { descriptorPath, mountIdOf } from './place.js';
import { O_PATH } from './walk.js';

const debug = createTrace('mount');

export const FILE_SYSTEM_TYPE = 'fuse.qcow2fs';
const MOUNT_TABLE = '/run/mount/utab';
const HELPERS = ['fusermount3', 'fusermount'] as const;

/** See proc(5), /proc/self/mountinfo. */
function table(): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left, right] = line.split(' - ');
    const [type, source, superOptions] = (right ?? '').split(' ');
    if (left === undefined || type !== FILE_SYSTEM_TYPE) continue;
    const [id, , device, root, mountpoint, mountOptions] = left.split(' ');
    const userId = /(?:^|,)user_id=(\d+)/.exec(superOptions ?? '')?.[1];
    entries.push({
      id: id ?? '',
      mountpoint: unescapeOctal(mountpoint ?? ''),
      root: unescapeOctal(root ?? ''),
      source: unescapeOctal(source ?? ''),
      device: device ?? '',
      userId: userId === undefined ? undefined : Number(userId),
      readOnly: (mountOptions ?? '').split(',').includes('ro'),
    });
  }
  return entries;
}

/** @throws Qcow2fsError `mountpoint` */
function openRoot(entry: MountEntry): Held {
  return pin(entry, entry.mountpoint);
}

/** @param place that leads to the root of the mount, if nothing has changed since the table was read */
function pin({ id, mountpoint }: MountEntry, place: string): Held {
  const failure = (why: string): Qcow2fsError => new Qcow2fsError('mountpoint', `${mountpoint}: ${why}`);
  let fd: number;
  try {
    fd = fs.openSync(place, O_PATH | fs.constants.O_NOFOLLOW);
  } catch (error) {
    throw failure(`cannot get at what is mounted there: ${hostReason(error)}`);
  }
  const close = (): void => fs.closeSync(fd);
  if (mountIdOf(fd) === id) return { fd, path: descriptorPath(fd), close };
  close();
  const covering = covers(mountpoint, id);
  throw failure(
    covering
      ? `another file system is mounted on top; unmount that first: umount ${shellWord(mountpoint)}`
      : 'the path leads elsewhere now: a directory above it was renamed',
  );
}

function unique(entry: MountEntry): string | undefined {
  try {
    const root = openRoot(entry);
    const id = uniqueMountIdOf(root.path);
    root.close();
    return id;
  } catch {
    return undefined;
  }
}

/** Whether another mount is on top of this one. */
function covers(mountpoint: string, id: string): boolean {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.some((line) => {
    const [, parent, , , place] = line.split(' ');
    return parent === id && unescapeOctal(place ?? '') === mountpoint;
  });
}

/**
 * A mountpoint cannot be renamed while something is mounted there, but the directories above it can. So its parent is
 * pinned, and the name is looked up in there, first to see what it is.
 */
function unmount(entry: MountEntry, lazy: boolean): void {
  const { mountpoint } = entry;
  let parent: number | undefined;
  try {
    parent = fs.openSync(path.dirname(mountpoint), O_PATH | fs.constants.O_DIRECTORY);
    const place = `${descriptorPath(parent)}/${path.basename(mountpoint)}`;
    pin(entry, place).close();
    if (process.geteuid?.() === 0 && unmountAsRoot(entry, place, lazy)) return;
    assertOwn(entry);
    const result = runHelper(['-u', ...(lazy ? ['-z'] : []), '--', mountpoint], []);
    if (result.status !== 0) throw unmountFailure(mountpoint, result.message);
  } catch (error) {
    if (error instanceof Qcow2fsError) throw error;
    throw unmountFailure(mountpoint, hostReason(error));
  } finally {
    if (parent !== undefined) fs.closeSync(parent);
  }
}

/** The helper would say that it cannot find the mount. */
function assertOwn({ mountpoint, userId }: MountEntry): void {
  if (userId === undefined || userId === process.getuid?.() || process.geteuid?.() === 0) return;
  const who = userId === 0 ? 'root' : `user ${userId} or root`;
  throw new Qcow2fsError('mountpoint', `${mountpoint}: only ${who} may unmount it`);
}

/** @returns false for root without CAP_SYS_ADMIN, who is an ordinary user here */
function unmountAsRoot({ mountpoint }: MountEntry, place: string, lazy: boolean): boolean {
  try {
    unmountDirectly(place, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0));
  } catch (error) {
    if (errnoName(error) === 'EPERM') return false;
    throw error;
  }
  forget(mountpoint);
  return true;
}

/** mount(8) keeps a table of its own, in which the helper of this program has entered the mount. */
function forget(mountpoint: string): void {
  try {
    if (!fs.readFileSync(MOUNT_TABLE, 'utf8').includes(`TARGET=${escapeOctal(mountpoint)} `)) return;
    spawnSync(...commandLine('umount', ['--fake', '--internal-only', '--no-canonicalize', '--', mountpoint]));
  } catch {
    // There is none, and nothing to forget.
  }
}

function unmountFailure(mountpoint: string, reason: string): Qcow2fsError {
  const busy = /busy/i.test(reason);
  const hint = busy
    ? `: the disk is in use; see who: fuser -vm ${shellWord(mountpoint)}, losetup -a`
    : `: ${reason}`;
  return new Qcow2fsError('mountpoint', `${mountpoint}: cannot unmount${hint}`);
}

interface HelperResult {
  readonly status: number | null;
  readonly message: string;
}

/**
 * fusermount3, or its older namesake.
 * @param descriptors inherited as descriptor 3 and up; the first one is where the helper answers
 * @throws Qcow2fsError `fuse` where there is none
 */
export function runHelper(args: readonly string[], descriptors: readonly number[]): HelperResult {
  for (const helper of HELPERS) {
    debug('%s %s', helper, args.join(' '));
    const result = spawnSync(...commandLine(helper, args), {
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

/** Linux 6.17 and newer tell the connection of a descriptor of /dev/fuse. */
function served(fd: number): MountEntry | undefined {
  const minor = /^fuse_connection:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  return minor === undefined ? undefined : table().findLast(({ device }) => device === `0:${minor}`);
}

/** The file is opened at once: its number may name another connection later, and the open file never does. */
function connection(device: string): Connection {
  const minor = device.split(':')[1];
  let fd: number | undefined;
  try {
    fd = fs.openSync(`/sys/fs/fuse/connections/${minor}/abort`, 'w');
  } catch {
    // fusectl may not be mounted; whoever wants to abort ends the process, which ends the connection, too.
  }
  return {
    abort() {
      try {
        if (fd !== undefined) fs.writeSync(fd, '1');
      } catch {
        // It has ended.
      }
    },
  };
}

function escapeOctal(text: string): string {
  return text.replace(/[ \t\n\\]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** Blanks and backslashes are written as octal numbers. */
export function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export const linuxMounts: MountSystem = { table, unmount, openRoot, unique, served, connection };
