/** How a process becomes a daemon: its output goes to a log, and once the disk is ready it leaves its terminal. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import { duplicate, leaveSession, redirect } from '../host/libc.js';
import { letGoOfCaller, releaseLauncher } from './launch.js';
import { log, openLog } from './log.js';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

/** Where a daemon logs unless told otherwise. */
export function defaultLogFile(): string {
  if (process.getuid?.() === 0) return '/var/log/qcow2fs.log';
  const state = process.env['XDG_STATE_HOME'] ?? path.join(os.homedir(), '.local', 'state');
  return path.join(state, 'qcow2fs', 'qcow2fs.log');
}

export class Background {
  /** The caller's standard error, for what is to be said before the disk is ready. */
  #stderr: number | undefined;
  readonly #stdout: number;

  /**
   * From here on the process logs, and holds no directory.
   * @throws Qcow2fsError `host-io` when the log cannot be opened
   */
  constructor(logFile: string) {
    letGoOfCaller();
    const stderr = duplicate(STDERR);
    this.#stdout = duplicate(STDOUT);
    openLog(logFile);
    this.#stderr = stderr;
    process.chdir('/');
  }

  /** True when nobody waits for this process any more. */
  get isReleased(): boolean {
    return this.#stderr === undefined;
  }

  /** Standard error is the caller's again, unless that is gone: something failed. */
  giveBack(): void {
    if (this.#stderr !== undefined) redirect(this.#stderr, STDERR);
  }

  /**
   * The disk can be opened: prints its devices, and lets the caller go on.
   * @throws Qcow2fsError `host-io` when nothing can be printed
   */
  release(disk: string, devices: readonly string[]): void {
    this.#print(devices);
    leaveSession();
    const nothing = fs.openSync(os.devNull, 'r');
    redirect(nothing, STDIN);
    fs.closeSync(nothing);
    fs.closeSync(this.#stderr!);
    this.#stderr = undefined;
    if (!releaseLauncher(0)) {
      log(`${disk}: nobody waits for it any more`);
      process.kill(process.pid, 'SIGTERM');
    }
  }

  /** To the caller's standard output, which then is let go of. */
  #print(lines: readonly string[]): void {
    try {
      if (lines.length > 0) fs.writeSync(this.#stdout, `${lines.join('\n')}\n`);
    } catch (error) {
      throw new Qcow2fsError('host-io', `standard output: ${hostReason(error)}`);
    } finally {
      fs.closeSync(this.#stdout);
    }
  }
}
