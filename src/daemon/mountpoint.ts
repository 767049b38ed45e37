/**
 * What may be mounted on: an empty directory, or a regular file. It is looked at once, and held by a descriptor from
 * then on, so that a path which leads elsewhere a moment later changes nothing.
 */

import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { mountedAt } from '../host/mounts.js';
import { holdPlace, type Place } from '../host/place.js';
import { shellWord } from '../printable.js';
import { claimPlace } from './state-directory.js';

export interface Mountpoint {
  /** Its path when it was looked at, without symbolic links. */
  readonly path: string;
  /** A regular file, which becomes the disk. */
  readonly singleFile: boolean;
  /** Leads to the directory or file itself, until it is released. */
  readonly at: string;
  /** Lets others try to mount there: to be called when the mount is made. The end of the process does it, too. */
  release(): void;
}

/**
 * Checks a mountpoint and keeps other daemons from mounting there at the same time.
 * @param mountpoint absolute, without symbolic links
 * @param nonEmpty a directory may have files, which are hidden then
 * @throws Qcow2fsError `mountpoint`
 */
export function claimMountpoint(mountpoint: string, nonEmpty = false): Mountpoint {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('mountpoint', `${mountpoint}: ${what}`);
  // First of all: a disk whose daemon is dead cannot be looked at.
  refuseMounted(mountpoint, bad);
  const place = lookAt(mountpoint, bad);
  let giveBack: (() => void) | undefined;
  const release = (): void => {
    giveBack?.();
    place.close();
  };
  try {
    const singleFile = inspect(place, nonEmpty, bad);
    giveBack = claimPlace(fs.statSync(place.path, { bigint: true }));
    if (giveBack === undefined) throw bad('another qcow2fs is mounting there');
    // Whoever held the lock before may have mounted.
    refuseMounted(place.real, bad);
    return { path: place.real, singleFile, at: place.path, release };
  } catch (error) {
    release();
    throw error instanceof Qcow2fsError ? error : bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
}

type Failure = (what: string) => Qcow2fsError;

function lookAt(mountpoint: string, bad: Failure): Place {
  try {
    return holdPlace(mountpoint);
  } catch (error) {
    if (errnoName(error) === 'ENOENT')
      throw bad('the mountpoint does not exist; make it first: mkdir or touch');
    throw bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
}

function refuseMounted(place: string, bad: Failure): void {
  const mounted = mountedAt(place);
  if (mounted === undefined) return;
  throw bad(
    `${mounted.source} is mounted there already; unmount it first: qcow2fs umount ${shellWord(place)}`,
  );
}

/** @returns whether it is a regular file */
function inspect({ stat, path }: Place, nonEmpty: boolean, bad: Failure): boolean {
  if (stat.isFile()) return true;
  if (!stat.isDirectory()) throw bad('a mountpoint must be a directory or a regular file');
  if (!nonEmpty && fs.readdirSync(path).length > 0) {
    throw bad('the mountpoint is not empty: its files would be hidden; use an empty directory');
  }
  return false;
}
