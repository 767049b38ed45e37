/** A file that is written as a whole or not at all. */
import fs from 'node:fs';
import path from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';

/** They come when the file is complete: writing takes no longer than a moment. */
const HELD_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Puts the text in the place of what the file held. A link stays one, and what is no regular file is written to.
 * @throws Qcow2fsError `host-io`; the file is as it was then
 */
export function writeWholeFile(file: string, text: string): void {
  const hold = (): void => {};
  for (const signal of HELD_SIGNALS) process.on(signal, hold);
  try {
    const target = targetOf(file);
    if (target.special) fs.writeFileSync(target.path, text);
    else replace(target.path, text, target.mode);
  } catch (error) {
    throw new Qcow2fsError('host-io', `${file}: cannot be written: ${hostReason(error)}`, { cause: error });
  } finally {
    for (const signal of HELD_SIGNALS) process.off(signal, hold);
  }
}

interface Target {
  readonly path: string;
  /** A terminal, a pipe: it must not be replaced by a file. */
  readonly special: boolean;
  readonly mode: number;
}

function targetOf(file: string): Target {
  try {
    const real = fs.realpathSync.native(file);
    const stat = fs.statSync(real);
    return { path: real, special: !stat.isFile(), mode: stat.mode & 0o777 };
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw error;
    return { path: file, special: false, mode: 0o666 & ~process.umask() };
  }
}

function replace(target: string, text: string, mode: number): void {
  const temporary = path.join(path.dirname(target), `.qcow2fs-${process.pid}.tmp`);
  const fd = fs.openSync(temporary, 'wx', 0o600);
  try {
    fs.writeFileSync(fd, text);
    fs.fchmodSync(fd, mode);
    fs.fsyncSync(fd);
    fs.renameSync(temporary, target);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  } finally {
    fs.closeSync(fd);
  }
}
