/** A file whose content is replaced as a whole: no reader sees half of it, and nobody may read it who could not before. */

import path from 'node:path';
import fs, { type Stats } from '../fs.js';
import { descriptorPath } from './place.js';
import { readAcl, writeAcl } from './posix-acl.js';

/**
 * Owner, group, permissions and access control list of an existing file stay. Where that cannot be with a new file, as
 * for an ordinary user and a file of another owner, the old one is written to instead.
 * @param file a regular file, or nothing yet; anything else there is replaced by a new file
 * @throws a system error; the file is as it was then, unless it was written to
 */
export function replaceFile(file: string, text: string): void {
  const found = fs.lstatSync(file, { throwIfNoEntry: false });
  const old = found?.isFile() ? found : undefined;
  const temporary = path.join(path.dirname(file), `.qcow2fs-${process.pid}.tmp`);
  const fd = fs.openSync(temporary, 'wx', old === undefined ? 0o666 : 0o600);
  try {
    if (old !== undefined && !takeOver(old, file, fd)) {
      fs.rmSync(temporary);
      overwrite(file, old, text);
      return;
    }
    fs.writeFileSync(fd, text);
    fs.fsyncSync(fd);
    fs.renameSync(temporary, file);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * By descriptors: whoever may write the directory can put a link in the place of either name.
 * @returns false when the new file cannot have what the old one has
 */
function takeOver(old: Stats, file: string, fd: number): boolean {
  let of: number | undefined;
  try {
    of = openSame(file, old, fs.constants.O_RDONLY);
    const made = fs.fstatSync(fd);
    if (made.uid !== old.uid || made.gid !== old.gid) fs.fchownSync(fd, old.uid, old.gid);
    // A new file may have got one from its directory.
    writeAcl(descriptorPath(fd), readAcl(descriptorPath(of)));
    fs.fchmodSync(fd, old.mode & 0o7777);
    return true;
  } catch {
    return false;
  } finally {
    if (of !== undefined) fs.closeSync(of);
  }
}

function overwrite(file: string, old: Stats, text: string): void {
  const fd = openSame(file, old, fs.constants.O_WRONLY);
  try {
    fs.ftruncateSync(fd);
    fs.writeFileSync(fd, text);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** @throws Error when another file has taken its place */
function openSame(file: string, old: Stats, access: number): number {
  const fd = fs.openSync(file, access | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
  const { dev, ino } = fs.fstatSync(fd);
  if (dev === old.dev && ino === old.ino) return fd;
  fs.closeSync(fd);
  throw new Error('another file is there now');
}
