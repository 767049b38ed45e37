/** Paths of the command line as absolute ones: a daemon's working directory is /. */
import path from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { workingDirectory } from '../host/arguments.js';
import { findMount } from './find-mount.js';

/** Where `..` leads behind a symbolic link only the host knows, so it is asked; else the path stays as it was given. */
export function absolutePath(file: string): string {
  if (file === '')
    throw new Qcow2fsError('usage', 'a name of a file is empty; is a variable of the shell not set?');
  const tidy = resolved(file);
  if (!file.split('/').includes('..')) return tidy;
  try {
    return path.join(fs.realpathSync.native(path.dirname(file)), path.basename(file));
  } catch {
    return tidy;
  }
}

function resolved(file: string): string {
  try {
    return path.isAbsolute(file) ? path.resolve(file) : path.resolve(workingDirectory(), file);
  } catch (error) {
    const reason = `${hostReason(error)}: the working directory is gone; change to another one`;
    throw new Qcow2fsError('host-io', `${file}: ${reason}, or name it by its whole path`);
  }
}

/** Threads cannot start in a working directory that is gone. To be called when no relative path is needed any more. */
export function leaveLostDirectory(): void {
  try {
    process.cwd();
  } catch {
    process.chdir('/');
  }
}

/**
 * Absolute and without symbolic links, as the mount table shows it. The last component is left alone: it may be a
 * mount whose daemon died.
 * @param hint what to do when there is none
 * @throws Qcow2fsError `mountpoint` when there is none
 */
export function resolveMountpoint(mountpoint: string, hint = 'see what is mounted: qcow2fs list'): string {
  const absolute = absolutePath(mountpoint);
  // A daemon that hangs is not asked: what is mounted there is known without a look at it.
  const entry = findMount(absolute);
  if (entry !== undefined) return entry.mountpoint;
  try {
    return fs.realpathSync(absolute);
  } catch (error) {
    // The daemon is dead, or it lets nobody in but its user: not even root may look at what is mounted.
    if (['ENOTCONN', 'EACCES'].includes(errnoName(error) ?? '') && isThere(absolute)) {
      return resolveParent(absolute);
    }
    const isMissing = errnoName(error) === 'ENOENT';
    const reason = isMissing ? `the mountpoint does not exist; ${hint}` : hostReason(error);
    throw new Qcow2fsError('mountpoint', `${absolute}: ${reason}`);
  }
}

/** By its name in its directory. */
function isThere(absolute: string): boolean {
  try {
    return fs.readdirSync(path.dirname(absolute)).includes(path.basename(absolute));
  } catch {
    return false;
  }
}

function resolveParent(absolute: string): string {
  return path.join(fs.realpathSync(path.dirname(absolute)), path.basename(absolute));
}
