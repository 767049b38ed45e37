/** What the kernel would let other people do with an open file, if they opened it by its path. */

import path from 'node:path';
import fs, { type Stats } from '../fs.js';
import { mountIdOf } from './place.js';
import { type AccessList, accessListOf } from './posix-acl.js';
import { O_PATH } from './walk.js';

/** Bits as in a mode: 4 to read, 2 to write, 1 to search a directory. */
export interface Grants {
  /** To everybody in a group. */
  readonly group: number;
  /** To everybody else. */
  readonly others: number;
}

const NOTHING: Grants = { group: 0, others: 0 };
const SEARCH = 1;
const OWNER_SEARCH = 0o100;
const NO_GROUP = -1;
/** May do everything anyway. */
const ROOT = 0;

/**
 * What the file grants to people other than `owner`, where all directories above it let them reach it: only what each of
 * them has for sure, whoever he is and whatever other groups he is in. Nothing where that cannot be told.
 *
 * @param owner the user whose rights are not asked for
 * @param group the group whose members are told apart from all others
 */
export function grantsOf(fd: number, owner: number, group: number): Grants {
  if (process.platform !== 'linux') return NOTHING;
  try {
    const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    const at = (place: number): Grants =>
      isPrivate(place, mounts) ? NOTHING : surely(listOf(place), owner, group);
    let granted = at(fd);
    forEachDirectoryAbove(fd, (directory) => {
      const search = at(directory);
      granted = {
        group: search.group & SEARCH ? granted.group : 0,
        others: search.others & SEARCH ? granted.others : 0,
      };
    });
    return granted;
  } catch {
    return NOTHING;
  }
}

/** Whether a user has the file as its owner, and may search all directories above it: then all rights are his to give. */
export function isReachedByOwner(fd: number, owner: number): boolean {
  if (fs.fstatSync(fd).uid !== owner) return false;
  try {
    let isReached = true;
    forEachDirectoryAbove(fd, (directory) => {
      const { uid, mode } = fs.fstatSync(directory);
      const { others } = surely(listOf(directory), ROOT, NO_GROUP);
      if (!(uid === owner ? mode & OWNER_SEARCH : others & SEARCH)) isReached = false;
    });
    return isReached;
  } catch {
    return false;
  }
}

/** The group of a file; that of this process for one that its user namespace does not map: nobody could write there. */
export function usableGroup(gid: number): number {
  if (process.platform !== 'linux') return gid;
  const mapsAll = /^\s*0\s+\d+\s+4294967295$/m.test(fs.readFileSync('/proc/self/gid_map', 'utf8'));
  const stands = Number(fs.readFileSync('/proc/sys/kernel/overflowgid', 'utf8'));
  return mapsAll || gid !== stands ? gid : process.getgid!();
}

const placeOf = (fd: number): string => `/proc/self/fd/${fd}`;

function listOf(fd: number): AccessList {
  return accessListOf(placeOf(fd), fs.fstatSync(fd));
}

/** A user's own FUSE mount, into which the kernel lets nobody else, whatever the permissions of its files say. */
function isPrivate(fd: number, mounts: readonly string[]): boolean {
  const mount = mounts.find((line) => line.startsWith(`${mountIdOf(fd)} `));
  if (mount === undefined) return true;
  const [type, , options] = mount.slice(mount.indexOf(' - ') + 3).split(' ');
  return /^fuse(blk)?(\.|$)/.test(type ?? '') && !options?.split(',').includes('allow_other');
}

/** From its own up to the root. Their names are not trusted: somebody may rename them meanwhile. */
function forEachDirectoryAbove(fd: number, visit: (directory: number) => void): void {
  const name = fs.readlinkSync(placeOf(fd));
  let directory = fs.openSync(path.dirname(name), O_PATH);
  try {
    const found = fs.lstatSync(path.join(placeOf(directory), path.basename(name)));
    if (!isSame(found, fs.fstatSync(fd))) throw new Error('another file is there now');
    for (;;) {
      visit(directory);
      const parent = fs.openSync(`${placeOf(directory)}/..`, O_PATH);
      const isRoot = isSame(fs.fstatSync(parent), fs.fstatSync(directory));
      fs.closeSync(directory);
      directory = parent;
      if (isRoot) return;
    }
  } finally {
    fs.closeSync(directory);
  }
}

function isSame(a: Stats, b: Stats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

function surely({ users, groups, others }: AccessList, owner: number, group: number): Grants {
  const all = (entries: AccessList['users']): number =>
    entries.reduce((common, { permissions }) => common & permissions, 7);
  const anybody = all(users.filter(({ id }) => id !== owner && id !== ROOT));
  const own = groups.filter(({ id }) => id === group);
  const outside = all(groups.filter(({ id }) => id !== group)) & others;
  return { group: anybody & (own.length > 0 ? all(own) : outside), others: anybody & outside };
}
