/**
 * The process of a daemon. It takes as long to start as the command line takes to load, so it is started first, as soon
 * as the arguments look like those of a mount, and waits to be told what to do. When they turn out to be no mount, or
 * none in the background, it is ended.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const ENTRY = fileURLToPath(new URL('./main.js', import.meta.url));

/** @param args what process tables show behind the program; the daemon takes nothing from them */
export function launchDaemon(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [ENTRY, ...args], {
    detached: true,
    // Until it has a log, what it has to say comes here.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
}

let early: ChildProcess | undefined;

/** As `launchDaemon`, for whoever takes it later. */
export function launchEarly(args: readonly string[]): void {
  early = launchDaemon(args);
  // Nobody may want it; who does, launches another and learns what is wrong.
  early.on('error', () => {
    early = undefined;
  });
}

/** The daemon that was launched early and waits, if any; now the caller's. */
export function takeDaemon(): ChildProcess | undefined {
  const daemon = early;
  early = undefined;
  const waits = daemon?.pid !== undefined && daemon.exitCode === null && daemon.signalCode === null;
  return waits ? daemon : undefined;
}

/** Ends a daemon that nobody took. */
export async function dropDaemon(): Promise<void> {
  const daemon = takeDaemon();
  if (daemon === undefined) return;
  const gone = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await gone;
}
