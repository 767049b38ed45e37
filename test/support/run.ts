/** Runs a program to its end and insists on success: the tests drive the reference tools through this alone. */

import type { Outcome } from './qcow2fs.js';
import { spawnProgram } from './spawn.js';

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Uint8Array;
  /** Accept this signal as the normal end (`qemu-io -c abort`). */
  readonly expectSignal?: NodeJS.Signals;
}

/** Returns stdout; throws an Error with command line, status and stderr when the program fails. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): string {
  const result = spawnProgram(command, args, options);
  const line = [command, ...args].map(quoted).join(' ');
  if (result.status === 0 && options.expectSignal === undefined) return result.stdout;
  if (result.signal !== null && result.signal === options.expectSignal) return result.stdout;
  const end = result.signal === null ? `exit status ${result.status}` : `signal ${result.signal}`;
  throw new Error(`${line}: ${end}: ${result.stderr.trim() || result.stdout.trim()}`);
}

/** One argument as a shell would accept it, so that a failing command can be pasted. */
function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

/** The PATH of system tools. */
export const SBIN = `${process.env['PATH']}:/usr/sbin:/sbin`;

/** Runs a system tool that may live in an sbin directory. */
export function tool(command: string, ...args: string[]): string {
  return run(command, args, { env: { ...process.env, PATH: SBIN } });
}

/** As `tool`, whatever its outcome. */
export function tryTool(command: string, ...args: string[]): Outcome {
  const env = { ...process.env, PATH: SBIN, LC_ALL: 'C' };
  const { status, stdout, stderr } = spawnProgram(command, args, { env });
  return { status, stdout, stderr };
}
