/** `qcow2fs umount`: unmounts, and returns when the daemon has released the image. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { isAlive, type MountState, readFailure, readState, removeState } from '../daemon/state.js';
import { Qcow2fsError } from '../errors.js';
import { mountedAt, unmountKernel } from '../fuse/mount-linux.js';
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
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs umount /mnt/x       when it returns, the image is complete and may be copied or started
  qcow2fs list                what is mounted?`,
    )
    .action(umount);
}

async function umount(mountpoint: string): Promise<void> {
  const resolved = resolveMountpoint(mountpoint);
  const entry = mountedAt(resolved);
  if (entry === undefined) {
    throw new Qcow2fsError(
      'mountpoint',
      `${resolved}: no qcow2fs disk is mounted there; see what is: qcow2fs list`,
    );
  }
  const userId = entry.userId ?? process.getuid!();
  const state = readState(entry.device, userId);
  unmountKernel(resolved, false);
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
