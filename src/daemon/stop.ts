/** How a daemon ends when it is told to. */
import { hostReason } from '../errors.js';
import { log } from './log.js';
import type { Session } from './session.js';
import { removeOwnState } from './state.js';

/** How long users of a disk that is told to stop may finish what they do: milliseconds. */
const GRACE = 5000;
/** How long an aborted connection may take to end its threads. */
const ABORT_GRACE = 2000;
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/**
 * SIGTERM, SIGINT and SIGHUP unmount. A disk that is in use disappears from the file system at once; its users have a
 * few seconds to finish, then their requests fail. A second signal ends the wait.
 */
export class StopOnSignal {
  readonly #session: Session;
  readonly #image: string;
  readonly #handler = (signal: NodeJS.Signals): void => this.#stop(signal);
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(session: Session, image: string) {
    this.#session = session;
    this.#image = image;
    for (const signal of SIGNALS) process.on(signal, this.#handler);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    for (const signal of SIGNALS) process.off(signal, this.#handler);
  }

  #stop(signal: NodeJS.Signals): void {
    if (this.#stopping) {
      this.#abort();
      return;
    }
    this.#stopping = true;
    try {
      this.#session.unmount(false);
    } catch {
      log(`${this.#image}: ${signal}: the disk is in use; its users have ${GRACE / 1000} s to finish`);
      this.#detach();
      this.#timer = setTimeout(() => this.#abort(), GRACE);
    }
  }

  #detach(): void {
    try {
      this.#session.unmount(true);
    } catch (error) {
      log(`${this.#image}: ${hostReason(error)}`);
    }
  }

  /** Ends the service; when that does not wake its threads, the process goes. */
  #abort(): void {
    clearTimeout(this.#timer);
    this.#session.abort();
    this.#timer = setTimeout(() => {
      log(`${this.#image}: ended while the disk was in use`);
      removeOwnState(this.#session.device);
      endProcess();
    }, ABORT_GRACE);
  }
}

/** Threads that wait for requests cannot be ended from inside, and `process.exit` would wait for them. */
export function endProcess(): void {
  process.kill(process.pid, 'SIGKILL');
}
