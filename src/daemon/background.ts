/** How a process becomes a daemon: its output goes to a log, and once the disk is ready it leaves its terminal. */
import os from 'node:os';
import path from 'node:path';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { duplicate, leaveSession, redirect } from '../host/libc.js';
import { notice } from '../notice.js';
import { letGoOfCaller, releaseLauncher } from './launch.js';
import { log, openLog } from './log.js';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

/**
 * Where a daemon logs by default.
 * @throws Qcow2fsError `host-io` for a user without a home directory
 */
function defaultLogFile(): string {
  if (process.getuid?.() === 0) return '/var/log/qcow2fs.log';
  return path.join(stateDirectory(), 'qcow2fs', 'qcow2fs.log');
}

/** XDG Base Directory Specification: relative paths are ignored. */
function stateDirectory(): string {
  const state = process.env['XDG_STATE_HOME'] ?? '';
  if (path.isAbsolute(state)) return state;
  const home = homeDirectory();
  if (path.isAbsolute(home)) return path.join(home, '.local', 'state');
  throw new Qcow2fsError('host-io', 'cannot open the log: this user has no home directory');
}

/** Empty for a user that the system does not know, as in a container. */
function homeDirectory(): string {
  try {
    return os.homedir();
  } catch {
    return '';
  }
}

/**
 * A log that the user names must be there: an examiner may need it, and nothing is mounted yet. The default log is a
 * courtesy: without it the disk is mounted all the same.
 * @param wanted absolute; undefined for the default
 * @returns the log; undefined where there is only the system's
 * @throws Qcow2fsError `host-io` when the wanted log cannot be opened
 */
function startLog(wanted: string | undefined): string | undefined {
  try {
    const file = wanted ?? defaultLogFile();
    openLog(file);
    return file;
  } catch (error) {
    if (wanted !== undefined || !(error instanceof Qcow2fsError)) throw error;
    notice(`warning: ${error.message}; the daemon logs to the system's log only`);
    openLog(os.devNull);
    return undefined;
  }
}

export class Background {
  /** The caller's standard error, for what is to be said before the disk is ready. */
  #stderr: number | undefined;
  readonly #stdout: number;
  /** Absolute; undefined where there is only the system's log. */
  readonly log: string | undefined;

  /**
   * From here on the process logs, and holds no directory.
   * @param log absolute; undefined for the default
   * @param image the descriptor of the caller by which the image is opened, if it is by one
   * @throws Qcow2fsError `host-io` when `log` cannot be opened
   */
  constructor(log: string | undefined, image: number | undefined) {
    letGoOfCaller(image);
    const stderr = duplicate(STDERR);
    this.#stdout = duplicate(STDOUT);
    this.log = startLog(log);
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
    letGoOfCaller();
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
