/** Mounts on any mountpoint, and the daemons that serve them as processes. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Defer } from './clean-up.js';
import { daemonsOf, isRunning, mountsAt } from './processes.js';
import { expectQcow2fs, type Outcome, qcow2fs, type RunAs } from './qcow2fs.js';
import { tool } from './run.js';

export { daemonOf, daemonsOf, isRunning, mountsAt, openFilesOf } from './processes.js';

export interface Mount {
  readonly mountpoint: string;
  /** What looks like the raw disk. */
  readonly disk: string;
  readonly log: string;
}

/**
 * Mounts read-only on a mountpoint of the caller's choice, and sees to its end: lazily unmounted after the test
 * when it is still there, its daemon killed when it still runs.
 */
export function mountOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, ['-r', ...args], image, mountpoint, runAs);
}

/** As `mountOn`, but the disk can be written. */
export function mountWritableOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, args, image, mountpoint, runAs);
}

function mountAny(
  defer: Defer,
  args: readonly string[],
  image: string,
  mountpoint: string,
  runAs: RunAs,
): Mount {
  const log = `${mountpoint}.log`;
  defer(() => endMount(mountpoint));
  expectQcow2fs(['mount', '--log', log, ...args, image, mountpoint], runAs);
  const disk = fs.statSync(mountpoint).isFile() ? mountpoint : path.join(mountpoint, 'disk.raw');
  return { mountpoint, disk, log };
}

/** A mount that may be refused; should it not be, it ends with the test. */
export function tryMount(
  defer: Defer,
  args: readonly string[],
  mountpoint: string,
  runAs: RunAs = {},
): Outcome {
  defer(() => endMount(mountpoint));
  return qcow2fs(['mount', ...args, mountpoint], runAs);
}

/** Unmounts a writable disk whose daemon was killed: it goes, and the caller learns what that may mean. */
export function umountOfKilled(mountpoint: string): void {
  const { status, stderr } = qcow2fs(['umount', mountpoint]);
  expect(stderr).to.match(
    /: unmounted, but the last writes may be lost: its daemon \(process \d+\) was killed\n$/,
  );
  expect(status).to.equal(3);
}

/** Whatever is left of a mount and its daemon goes. */
export function endMount(mountpoint: string): void {
  while (mountsAt(mountpoint).includes(mountpoint)) tool('umount', '-l', mountpoint);
  for (const pid of daemonsOf(mountpoint)) process.kill(pid, 'SIGKILL');
}

/**
 * A daemon that answers no more goes before anything that asks it: umount(8), close(2). To be deferred right after the
 * mount, and so to be done before its end.
 */
export function endDaemon(pid: number): void {
  if (isRunning(pid)) process.kill(pid, 'SIGKILL');
}

/** The lines of a daemon's log without time and process. */
export function logLines(log: string): string[] {
  return fs
    .readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/^\S+ qcow2fs\[\d+\]: /, ''));
}
