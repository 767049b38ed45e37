/** The system's log (syslog(3)): journald or a syslog daemon, wherever /dev/log leads. */
import { isMainThread } from 'node:worker_threads';
import { type Foreign, foreignIfPresent } from './libc.js';
import { addressOf } from './memory.js';

const LOG_PID = 1;
const LOG_DAEMON = 3 << 3;
const LOG_NOTICE = 5;

/** The C library keeps the address for the whole process, so it must be memory of the thread that lives longest. */
const IDENT = Buffer.from('qcow2fs\0');
let write: Foreign | undefined;

/** From now on `toSyslog` sends its lines. */
export function openSyslog(): void {
  if (isMainThread) {
    const open = foreignIfPresent('void openlog(uint64_t ident, int option, int facility)');
    open?.(addressOf(IDENT, 0), LOG_PID, LOG_DAEMON);
  }
  write = foreignIfPresent('void syslog(int priority, const char *format, ...)');
}

/** Where nobody listens, the line is lost. */
export function toSyslog(line: string): void {
  write?.(LOG_DAEMON | LOG_NOTICE, '%s', 'const char *', line);
}
