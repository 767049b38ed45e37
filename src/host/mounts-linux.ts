/** The mounts of Linux: its table, and unmounting by umount2(2) for root and by fusermount3 for everybody else. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import { shellWord } from '../printable.js';
import { createTrace } from '../trace.js';
import { MNT_DETACH, UMOUNT_NOFOLLOW, unmount as unmountDirectly } from './libc.js';
import type { MountEntry, MountSystem } from './mounts.js';

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
    const [, , device, root, mountpoint, mountOptions] = left.split(' ');
    const userId = /(?:^|,)user_id=(\d+)/.exec(superOptions ?? '')?.[1];
    entries.push({
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

function unmount(mountpoint: string, lazy: boolean): void {
  if (process.geteuid?.() === 0) {
    try {
      unmountDirectly(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0));
      forget(mountpoint);
      return;
    } catch (error) {
      if (errnoName(error) !== 'EPERM') throw unmountFailure(mountpoint, hostReason(error));
    }
  }
  const result = runHelper(['-u', ...(lazy ? ['-z'] : []), '--', mountpoint], []);
  if (result.status !== 0) throw unmountFailure(mountpoint, result.message);
}

/** mount(8) keeps a table of its own, in which the helper of this program has entered the mount. */
function forget(mountpoint: string): void {
  try {
    if (!fs.readFileSync(MOUNT_TABLE, 'utf8').includes(`TARGET=${escapeOctal(mountpoint)} `)) return;
    spawnSync('umount', ['--fake', '--internal-only', '--no-canonicalize', '--', mountpoint]);
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

function abort(device: string): void {
  const connection = device.split(':')[1];
  try {
    fs.writeFileSync(`/sys/fs/fuse/connections/${connection}/abort`, '1');
  } catch {
    // fusectl may not be mounted; the caller ends the process, which ends the connection too.
  }
}

function escapeOctal(text: string): string {
  return text.replace(/[ \t\n\\]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** Blanks and backslashes are written as octal numbers. */
export function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export const linuxMounts: MountSystem = { table, unmount, abort };
