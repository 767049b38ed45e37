/** What may be mounted on: an empty directory, or a regular file. */
import fs from 'node:fs';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import { mountedAt } from '../fuse/mount-linux.js';

/**
 * @param mountpoint absolute, without symbolic links
 * @throws Qcow2fsError `mountpoint`
 */
export function checkMountpoint(mountpoint: string): { singleFile: boolean } {
  const bad = (what: string): Qcow2fsError => new Qcow2fsError('mountpoint', `${mountpoint}: ${what}`);
  const mounted = mountedAt(mountpoint);
  if (mounted !== undefined) {
    throw bad(`${mounted.source} is mounted there already; unmount it first: qcow2fs umount ${mountpoint}`);
  }
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
  if (!isEmpty(mountpoint, bad))
    throw bad('the mountpoint is not empty: its files would be hidden; use an empty directory');
  return { singleFile: false };
}

function isEmpty(directory: string, bad: (what: string) => Qcow2fsError): boolean {
  try {
    return fs.readdirSync(directory).length === 0;
  } catch (error) {
    throw bad(`cannot use it as a mountpoint: ${hostReason(error)}`);
  }
}
