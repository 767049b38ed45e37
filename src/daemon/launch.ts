/**
 * A mount in the background is two processes: the launcher, whose end the caller waits for, and the daemon, which
 * serves. Starting Node takes longer than mounting, so the launcher is the shell script in `bin/qcow2fs`, where it
 * sees in time that a mount is wanted; else the program launches itself once more.
 *
 * The launcher hands the daemon one end of a pipe and ends with the status that it reads there: 0 as soon as the disk
 * can be opened, or what the daemon ended with.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { hostReason, Qcow2fsError } from '../errors.js';
import { keepFromChildren } from '../host/libc.js';

const PROGRAM = fileURLToPath(new URL('../cli/main.js', import.meta.url));

/** Names the daemon's end of the pipe: a descriptor. */
const STATUS_FD = 'QCOW2FS_STATUS_FD';

let statusFd: number | undefined;

/** To be called first of all. @returns whether a launcher waits for this process */
export function findLauncher(): boolean {
  const value = process.env[STATUS_FD];
  delete process.env[STATUS_FD];
  if (value !== undefined && /^\d+$/.test(value)) statusFd = Number(value);
  return statusFd !== undefined;
}

/** No process that this one starts may keep the launcher waiting. */
export function keepLauncher(): void {
  if (statusFd !== undefined) keepFromChildren(statusFd);
}

export function hasLauncher(): boolean {
  return statusFd !== undefined;
}

/**
 * Lets the launcher end, with this status.
 * @returns false when it is gone already
 */
export function releaseLauncher(status: number): boolean {
  if (statusFd === undefined) return false;
  const fd = statusFd;
  statusFd = undefined;
  try {
    fs.writeSync(fd, String(status));
    return true;
  } catch {
    return false;
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Does what `bin/qcow2fs` does: starts this program once more, with the same arguments, as a daemon.
 * @returns its status
 * @throws Qcow2fsError `internal` when it cannot be started
 */
export async function launch(): Promise<number> {
  const daemon = spawn(process.execPath, [...process.execArgv, PROGRAM, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, [STATUS_FD]: '3' },
  });
  const answer = daemon.stdio[3] as NodeJS.ReadableStream;
  let text = '';
  return new Promise((resolve, reject) => {
    daemon.once('error', (error) => {
      reject(new Qcow2fsError('internal', `cannot start the daemon: ${hostReason(error)}`));
    });
    answer.on('data', (bytes: Buffer) => {
      text += bytes.toString();
    });
    answer.once('end', () => {
      daemon.unref();
      if (text === '') {
        reject(new Qcow2fsError('internal', 'the daemon ended before the disk was ready; see its log'));
      } else resolve(Number(text));
    });
  });
}
