/**
 * The daemon's log: lines on standard error, which is the log file of a daemon in the background; its lines go to the
 * system's log, too. Written with one call each, so that the lines of several threads do not mix.
 */
import path from 'node:path';
import { type ErrorRecord, errnoName, hostReason, Qcow2fsError, toErrorRecord } from '../errors.js';
import fs from '../fs.js';
import { isOpen } from '../host/descriptors.js';
import type { OpenFile } from '../host/file-storage.js';
import { redirect } from '../host/libc.js';
import { openSyslog, toSyslog } from '../host/syslog.js';
import { printable } from '../printable.js';

const STDOUT = 1;
const STDERR = 2;
/** Different failures that get a line; a power of 2. */
const MAX_REMEMBERED = 1024;

export function log(message: string): void {
  const text = printable(message);
  toSyslog(text);
  const origin = isJournal() ? '' : `${new Date().toISOString()} qcow2fs[${process.pid}]: `;
  try {
    fs.writeSync(STDERR, `${origin}${text}\n`);
  } catch {
    // Nobody reads the log, and there is nowhere to say so.
  }
}

/** Whether standard error leads to the journal, which knows time and process itself (systemd.exec(5), JOURNAL_STREAM). */
function isJournal(): boolean {
  const stream = process.env['JOURNAL_STREAM'];
  if (stream === undefined) return false;
  const { dev, ino } = fs.fstatSync(STDERR);
  return stream === `${dev}:${ino}`;
}

/**
 * Sends standard output and standard error of the process to a log file, at its end; what is logged goes to the
 * system's log, too.
 * @throws Qcow2fsError `host-io`
 */
export function openLog(file: string): void {
  let fd: number;
  try {
    makeDirectories(path.dirname(file));
    // A FIFO without a reader would be waited for.
    const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = fs.constants;
    fd = fs.openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
  } catch (error) {
    throw new Qcow2fsError(
      'host-io',
      `${file}: cannot open the log: ${hostReason(error)}; name another: --log FILE`,
    );
  }
  redirect(fd, STDOUT);
  redirect(fd, STDERR);
  openSyslog();
  fs.closeSync(fd);
}

/**
 * What is logged must not change the image.
 * @throws Qcow2fsError `usage` when the log is one of these files
 */
export function assertNoLog(files: readonly OpenFile[]): void {
  if (!isOpen(STDERR)) return;
  const { dev, ino } = fs.fstatSync(STDERR, { bigint: true });
  const found = files.find(({ device, inode }) => device === dev && inode === ino);
  if (found !== undefined) {
    throw new Qcow2fsError(
      'usage',
      `${found.path}: cannot be the log of its own disk; name another: --log FILE`,
    );
  }
}

/** As `fs.mkdirSync(..., { recursive: true })`, which does not return where nothing can be made, as below /proc. */
function makeDirectories(directory: string): void {
  if (fs.existsSync(directory)) return;
  makeDirectories(path.dirname(directory));
  try {
    fs.mkdirSync(directory);
  } catch (error) {
    // Somebody else was faster.
    if (errnoName(error) !== 'EEXIST') throw error;
  }
}

/**
 * Failures of requests, each message logged once by whichever thread meets it first: a damaged cluster that is read
 * again and again gets one line, not a full disk. The threads share a table of the messages' hashes.
 */
export class FailureLog {
  readonly #hashes: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#hashes = new Int32Array(memory);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(MAX_REMEMBERED * Int32Array.BYTES_PER_ELEMENT);
  }

  readonly add = (error: unknown): void => {
    const { message }: ErrorRecord = toErrorRecord(error);
    this.note(message);
  };

  readonly note = (message: string): void => {
    if (this.#isNew(hash(message))) log(message);
  };

  /** Open addressing; a full table means that enough has been said. */
  #isNew(value: number): boolean {
    for (let i = 0; i < MAX_REMEMBERED; i++) {
      const before = Atomics.compareExchange(this.#hashes, (value + i) & (MAX_REMEMBERED - 1), 0, value);
      if (before === 0) return true;
      if (before === value) return false;
    }
    return false;
  }
}

/** FNV-1a, never 0. */
function hash(text: string): number {
  let value = 0x811c_9dc5 | 0;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x0100_0193);
  return value | 1;
}
