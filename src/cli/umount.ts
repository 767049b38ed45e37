/** `qcow2fs umount`: unmounts, and returns when the daemon has released the image. */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { isAlive, type MountState, readFailure, readState, removeState } from '../daemon/state.js';
import { errnoName, Qcow2fsError } from '../errors.js';
import { detachLoop, loopsBelow, refuseUsedLoop } from '../host/loop-device.js';
import { mountedAt, unmount } from '../host/mounts.js';
import { resolveMountpoint } from './paths.js';

const POLL_INTERVAL = 5;
/** Milliseconds that a daemon may take to release the image. */
const PATIENCE = 60_000;

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
  if (quiet && isMissing(mountpoint)) return;
  const named = resolveMountpoint(mountpoint);
  // The disk's own name will do, too, as list shows it.
  const entry = mountedAt(named) ?? mountedAt(path.dirname(named));
  if (entry === undefined) {
    if (quiet) return;
    throw new Qcow2fsError(
      'mountpoint',
      `${named}: no qcow2fs disk is mounted there; see what is: qcow2fs list`,
    );
  }
  const resolved = entry.mountpoint;
  const userId = entry.userId ?? process.getuid!();
  const state = readState(entry.device, userId);
  await giveBackLoops(resolved, state);
  unmount(resolved, false);
  if (state === undefined) return;
  await waitForRelease(state);
  const failure = readFailure(entry.device, userId, state.pid);
  // A daemon that was killed, or failed at the end, could not do it.
  removeState(entry.device, userId, state.pid);
  if (failure !== undefined) {
    throw new Qcow2fsError(
      'host-io',
      `${state.image}: unmounted, but the last writes may be lost: ${failure}`,
    );
  }
}

/** What the daemon attached; when it is dead, whatever is attached to its disk. */
async function giveBackLoops(mountpoint: string, state: MountState | undefined): Promise<void> {
  const own = state?.loop === undefined ? [] : [{ device: state.loop, file: state.disk }];
  const loops = isDead(mountpoint) ? loopsBelow(mountpoint) : own;
  for (const { device, file } of loops) refuseUsedLoop(device, file);
  for (const { device, file } of loops) await detachLoop(device, file);
}

function isMissing(mountpoint: string): boolean {
  try {
    fs.lstatSync(mountpoint);
    return false;
  } catch (error) {
    return errnoName(error) === 'ENOENT';
  }
}

function isDead(mountpoint: string): boolean {
  try {
    fs.statSync(mountpoint);
    return false;
  } catch (error) {
    return errnoName(error) === 'ENOTCONN';
  }
}

async function waitForRelease(state: MountState): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (isAlive(state)) {
    if (Date.now() > deadline) {
      throw new Qcow2fsError(
        'mountpoint',
        `${state.mountpoint}: unmounted, but its daemon (process ${state.pid}) still runs after ${PATIENCE / 1000} s; see ${state.log ?? 'its standard error'}`,
      );
    }
    await delay(POLL_INTERVAL);
  }
}
