/**
 * What a daemon wants of the disk that it serves. A process that waits for a request which only it can answer cannot be
 * killed: so programs ask, which get an error when the service has ended. Linux only.
 */
import { spawn } from 'node:child_process';
import { commandLine } from './arguments.js';
import type { Held } from './mounts.js';

/** The first descriptor that a started program has besides the standard ones. */
const INHERITED = 3;
/** Whoever waits for the file goes on then: milliseconds. */
const TIMEOUT = 10_000;
/** A time that comes later might replace one that a program has set. */
const TIME_TIMEOUT = 1000;
const NS_PER_SECOND = 1_000_000_000n;

/**
 * As truncate(2).
 * @param name of the file in the directory; undefined where what is held is the file
 */
export function setSize(held: Held, name: string | undefined, size: number): Promise<void> {
  return run(held, 'truncate', ['--no-create', `--size=${size}`, '--', inherited(name)]);
}

/** @param mtime nanoseconds since 1970 */
export function setModificationTime(held: Held, name: string | undefined, mtime: bigint): Promise<void> {
  const seconds = mtime / NS_PER_SECOND - (mtime % NS_PER_SECOND < 0n ? 1n : 0n);
  const rest = String(mtime - seconds * NS_PER_SECOND).padStart(9, '0');
  const args = ['--no-create', '-m', `--date=@${seconds}.${rest}`, '--', inherited(name)];
  return run(held, 'touch', args, TIME_TIMEOUT);
}

/** Opens the file for reading, and closes it. */
export function tryOpen(held: Held, name: string | undefined): Promise<void> {
  return run(held, 'head', ['-c', '0', '--', inherited(name)]);
}

function inherited(name: string | undefined): string {
  return `/proc/self/fd/${INHERITED}${name === undefined ? '' : `/${name}`}`;
}

function run({ fd }: Held, program: string, args: readonly string[], timeout = TIMEOUT): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(...commandLine(program, args), {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      timeout,
      killSignal: 'SIGKILL',
      env: { ...process.env, LC_ALL: 'C' },
    });
    let message = '';
    child.stderr!.on('data', (bytes: Buffer) => (message += bytes));
    child.once('error', reject);
    child.once('close', (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(message.trim().split('\n')[0] || `${program} ended with ${status ?? signal}`));
    });
  });
}
