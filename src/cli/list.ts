/** `qcow2fs list`: the disks that are mounted on this machine. */
import path from 'node:path';
import type { Command } from 'commander';
import { type DetachedDisk, detachedDisks } from '../daemon/detached.js';
import { isAlive, type MountState, readState } from '../daemon/state.js';
import { isAttached } from '../host/loop-device.js';
import { type MountEntry, mountTable } from '../host/mounts.js';
import { printable } from '../printable.js';
import { humanBytes, print, printJson, table } from './output.js';

/** Nobody else attaches loop devices. */
const ROOT = 0;

/** One mount as `--json` gives it; null where this user may not know. */
interface ListedMount {
  readonly image: string;
  readonly mountpoint: string;
  readonly disk: string | null;
  /** Bytes. */
  readonly size: number | null;
  readonly readOnly: boolean | null;
  readonly userId: number | null;
  readonly pid: number | null;
  /**
   * `dead`: the daemon is gone and the mount only answers errors. `detached`: the daemon serves a disk that is mounted
   * nowhere in sight.
   */
  readonly state: 'mounted' | 'dead' | 'detached' | 'unknown';
  readonly transport: string | null;
  readonly threads: number | null;
  /** The loop device of `mount --loop`. */
  readonly loop: string | null;
  readonly log: string | null;
}

export function addListCommand(program: Command): void {
  program
    .command('list')
    .summary('show what is mounted')
    .description('Shows the disks that are mounted on this machine.')
    .option('--json', 'as a JSON object')
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs list                                       disks, their daemons, and whether these are alive
  qcow2fs list --json | jq -r '.mounts[].disk'       for scripts`,
    )
    .action(list);
}

async function list({ json }: { json?: boolean }): Promise<void> {
  const mounts = [...mountTable().map(describe), ...detachedDisks().map(describeDetached)];
  if (json) await printJson('list', { mounts });
  else if (mounts.length === 0) print('no qcow2fs disk is mounted');
  else print(toTable(mounts));
}

function toTable(mounts: readonly ListedMount[]): string {
  const hasLoops = mounts.some(({ loop }) => loop !== null);
  const rows = mounts.map(({ disk, loop, mountpoint, size, readOnly, pid, state, image }) => [
    printable(disk ?? mountpoint),
    ...(hasLoops ? [loop ?? ''] : []),
    size === null ? '?' : humanBytes(size),
    readOnly === null ? '?' : readOnly ? 'ro' : 'rw',
    pid === null ? '?' : String(pid),
    state,
    printable(image),
  ]);
  return table([['DISK', ...(hasLoops ? ['LOOP'] : []), 'SIZE', 'MODE', 'PID', 'STATE', 'IMAGE'], ...rows]);
}

/** A mount may be moved, and have copies (mount --move, --bind). */
function diskOf({ mountpoint, root }: MountEntry, state: MountState): string {
  const isFile = root !== '/' || state.disk === state.mountpoint;
  return isFile ? mountpoint : path.join(mountpoint, path.basename(state.disk));
}

function describe(entry: MountEntry): ListedMount {
  const { source, mountpoint, device, userId, readOnly } = entry;
  const state = userId === undefined ? undefined : readState(device, userId);
  return {
    image: state?.image ?? source,
    mountpoint,
    disk: state === undefined ? null : diskOf(entry, state),
    readOnly,
    userId: userId ?? null,
    state: state === undefined ? 'unknown' : isAlive(state) ? 'mounted' : 'dead',
    ...describeState(state, userId),
  };
}

function describeDetached({ userId, state }: DetachedDisk): ListedMount {
  const { image, mountpoint, disk, readOnly = null } = state;
  return { image, mountpoint, disk, readOnly, userId, state: 'detached', ...describeState(state, userId) };
}

function describeState(
  state: MountState | undefined,
  userId: number | undefined,
): Pick<ListedMount, 'size' | 'pid' | 'transport' | 'threads' | 'loop' | 'log'> {
  return {
    size: state?.size ?? null,
    pid: state?.pid ?? null,
    transport: state?.transport ?? null,
    threads: state?.threads ?? null,
    loop: userId === ROOT && state?.loop !== undefined && isAttached(state.loop) ? state.loop.device : null,
    log: state?.log ?? null,
  };
}
