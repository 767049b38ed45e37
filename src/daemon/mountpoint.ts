/** What may be mounted on: an empty directory, or a regular file. */
import fs from 'node:fs';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import { tryLock } from '../host/libc.js';
import { mountedAt } from '../host/mounts.js';
import { shellWord } from '../printable.js';

export interface Mountpoint {
  /** A regular file, which becomes the disk. */
  readonly singleFile: boolean;
  /** Lets others try to mount there: to be called when the mount is made. The end of the process does it, too. */
  release(): void;
}

/**
 * Checks a mountpoint and keeps other daemons from mounting there at the same time.
 * @param mountpoint absolute, without symbolic links
 * @throws Qcow2fsError `mountpoint`
 */
export function claimMountpoint(mountpoint: string): Mountpoint {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('mountpoint', `${mountpoint}: ${what}`);
  refuseMounted(mountpoint, bad);
  const { singleFile } = inspect(mountpoint, bad);
  const fd = openMountpoint(mountpoint, bad);
  const release = (): void => fs.closeSync(fd);
  try {
    if (!tryLock(fd)) throw bad('another qcow2fs is mounting there');
    // Whoever held the lock before may have mounted.
    refuseMounted(mountpoint, bad);
    return { singleFile, release };
  } catch (error) {
    release();
    throw error;
  }
}

type Failure = (what: string) => Qcow2fsError;

function refuseMounted(mountpoint: string, bad: Failure): void {
  const mounted = mountedAt(mountpoint);
  if (mounted === undefined) return;
  throw bad(
    `${mounted.source} is mounted there already; unmount it first: qcow2fs umount ${shellWord(mountpoint)}`,
  );
}

function inspect(mountpoint: string, bad: Failure): { singleFile: boolean } {
  let stat: fs.Stats;
  try {
    stat = fs.statSync(mountpoint);
  } catch (error) {
    if (errnoName(error) === 'ENOENT')
      throw bad('the mountpoint does not exist; make it first: mkdir or touch');
    throw bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
  if (stat.isFile()) return { singleFile: true };
  if (!stat.isDirectory()) throw bad('a mountpoint must be a directory or a regular file');
  if (!isEmpty(mountpoint, bad)) {
    throw bad('the mountpoint is not empty: its files would be hidden; use an empty directory');
  }
  return { singleFile: false };
}

function openMountpoint(mountpoint: string, bad: Failure): number {
  try {
    return fs.openSync(mountpoint, fs.constants.O_RDONLY);
  } catch (error) {
    throw bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
}

function isEmpty(directory: string, bad: Failure): boolean {
  try {
    return fs.readdirSync(directory).length === 0;
  } catch (error) {
    throw bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
}
