/**
 * The daemon's log: lines on standard error, which is the log file of a daemon in the background. Written with one
 * call each, so that the lines of several threads do not mix.
 */
import fs from 'node:fs';
import { printable } from '../printable.js';

const STDERR = 2;
/** A damaged cluster that is read again and again gets one line, not a full disk. */
const MAX_REMEMBERED = 1000;
const seen = new Set<string>();

export function log(message: string): void {
  const line = `${new Date().toISOString()} qcow2fs[${process.pid}]: ${printable(message)}\n`;
  try {
    fs.writeSync(STDERR, line);
  } catch {
    // Nobody reads the log, and there is nowhere to say so.
  }
}

/** Logs each message once in this thread. */
export function logOnce(message: string): void {
  if (seen.has(message) || seen.size >= MAX_REMEMBERED) return;
  seen.add(message);
  log(message);
  if (seen.size === MAX_REMEMBERED) log('too many different errors: further ones are not logged');
}
