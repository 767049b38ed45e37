/** `qcow2fs umount`: unmounts, and returns when the daemon has released the image. */
import type { Command } from 'commander';
import { isAlive, type MountState, readState } from '../daemon/state.js';
import { problemOfDirectories } from '../daemon/state-directory.js';
import { errnoName, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { detachLoop, isAttached, type LoopDevice, loopsBelow, refuseUsedLoop } from '../host/loop-device.js';
import { type MountEntry, mountTable, unmount } from '../host/mounts.js';
import { printable } from '../printable.js';
import { findMount } from './find-mount.js';
import { warn } from './output.js';
import { absolutePath, resolveMountpoint } from './paths.js';
import { waitForDetached, waitForRelease } from './wait-for-release.js';

export function addUmountCommand(program: Command): void {
  program
    .command('umount')
    .alias('unmount')
    .summary('unmount, and return when the image is released')
    .description('Unmounts, and returns when the daemon has released the image.')
    .argument('MOUNTPOINT', 'where the disk is mounted')
    .option('-q, --quiet', 'be content when nothing is mounted there')
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs umount /mnt/x       when it returns, the image is complete and may be copied or started
  qcow2fs list                what is mounted?`,
    )
    .action(umount);
}

async function umount(mountpoint: string, { quiet }: { quiet?: boolean }): Promise<void> {
  const place = absolutePath(mountpoint);
  if (findMount(place) === undefined && (await waitForDetached(place))) return;
  const entry = entryOf(mountpoint, quiet ?? false);
  if (entry === undefined) return;
  const userId = entry.userId ?? process.getuid!();
  const state = readState(entry.device, userId);
  // A copy of the mount (mount --bind) goes, and the disk stays.
  const copies = (): MountEntry[] => mountTable().filter(({ device }) => device === entry.device);
  const isLast = copies().length === 1;
  const loops = isLast ? await giveBackLoops(entry, state) : [];
  try {
    unmount(entry, false);
  } catch (error) {
    if (loops.length === 0 || !(error instanceof Qcow2fsError)) throw error;
    const gone = loops.map(({ device }) => device).join(', ');
    throw new Qcow2fsError(error.kind, `${error.message}; ${gone} is detached already`);
  }
  if (!isLast && !quiet) {
    const places = copies().map((copy) => printable(copy.mountpoint));
    warn(`${printable(entry.mountpoint)}: unmounted; the disk stays in use on ${places.join(', ')}`);
  }
  if (!isLast) return;
  if (state === undefined) {
    const problem = problemOfDirectories(userId) ?? 'its daemon left no state, so umount cannot wait for it';
    warn(`warning: ${entry.mountpoint}: unmounted, but ${problem}`);
  }
  if (state !== undefined) await waitForRelease({ device: entry.device, userId, state });
}

function entryOf(mountpoint: string, quiet: boolean): MountEntry | undefined {
  const entry = findMount(absolutePath(mountpoint));
  if (entry !== undefined || quiet) return entry;
  const place = resolveMountpoint(mountpoint);
  throw new Qcow2fsError(
    'mountpoint',
    `${place}: no qcow2fs disk is mounted there; see what is: qcow2fs list`,
  );
}

/** What the daemon attached; when it is dead, whatever is attached to its disk. Nobody but root attaches any. */
async function giveBackLoops(
  { mountpoint, userId }: MountEntry,
  state: MountState | undefined,
): Promise<readonly LoopDevice[]> {
  if (userId !== 0 || process.geteuid!() !== 0) return [];
  const own = state?.loop === undefined ? [] : [state.loop];
  const isServed = state !== undefined && isAlive(state);
  const hasEnded = !isServed && problemAt(mountpoint) === 'ENOTCONN';
  const others = hasEnded ? loopsBelow(mountpoint) : [];
  const loops = [...own, ...others].filter(isAttached);
  if (!hasEnded && loops.length > 0) refuseOtherLoops(mountpoint, loops);
  for (const loop of loops) refuseUsedLoop(loop);
  for (const loop of loops) await detachLoop(loop);
  return loops;
}

/** They keep the disk from being unmounted, and the daemon's own device would be gone by the time that shows. */
function refuseOtherLoops(mountpoint: string, own: readonly LoopDevice[]): void {
  const other = loopsBelow(mountpoint).find(({ device }) => own.every((loop) => loop.device !== device));
  if (other === undefined) return;
  const advice = `what is mounted from it goes first, then: losetup -d ${other.device}`;
  throw new Qcow2fsError(
    'mountpoint',
    `${mountpoint}: ${other.device} is attached to the disk, too; ${advice}`,
  );
}

/** Why a place cannot be looked at: ENOENT where nothing is, ENOTCONN where the daemon is dead. */
function problemAt(place: string): string | undefined {
  try {
    fs.lstatSync(place);
    return undefined;
  } catch (error) {
    return errnoName(error);
  }
}
