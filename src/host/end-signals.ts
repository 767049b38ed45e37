/** The signals that ask this process to end. */

/** Set by bin/qcow2fs when the caller ignores SIGHUP, as nohup(1) does. Node.js has forgotten it when a script begins. */
const NOHUP = 'QCOW2FS_NOHUP';

let endSignals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** To be called first of all: what the caller ignores is ignored from here on. */
export function ignoreWhatCallerIgnores(): void {
  const isHangupIgnored = process.env[NOHUP] !== undefined;
  delete process.env[NOHUP];
  if (!isHangupIgnored) return;
  endSignals = ['SIGINT', 'SIGTERM'];
  process.on('SIGHUP', () => {});
}

/** @returns those that are not ignored */
export function getEndSignals(): readonly NodeJS.Signals[] {
  return endSignals;
}
