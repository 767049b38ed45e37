/** How a daemon ends when it is told to. */
import { setTimeout as delay } from 'node:timers/promises';
import { hostReason, toErrorRecord } from '../errors.js';
import { getEndSignals } from '../host/end-signals.js';
import { exitAtOnce } from '../host/libc.js';
import { notifyServiceManager } from '../host/service-manager.js';
import { log } from './log.js';
import type { Session } from './session.js';
import { removeOwnState } from './state.js';

/** How long users of a disk that is told to stop may finish what they do: milliseconds. */
const GRACE = 5000;
/** How long an aborted connection may take to end its threads. */
const ABORT_GRACE = 2000;
/** How long the first signal is the same as one that follows: timeout(1) sends two. Milliseconds. */
const SAME_SIGNAL = 1000;
/** How long a killed daemon may take to give back what it has. */
const RELEASE_GRACE = 2000;

/** What a mounted disk has besides its file system. */
export interface Service {
  /** Saves what was written, before a process that cannot end in order is killed. */
  flush(): void;
  /** Gives back what keeps the disk open. Rejects when others keep it from that. */
  release(): Promise<void>;
}

/**
 * SIGTERM, SIGINT and SIGHUP unmount. A disk that is in use disappears from the file system at once; its users have a
 * few seconds to finish, then their requests fail. A second signal ends the wait.
 */
export class StopOnSignal {
  readonly #image: string;
  readonly #onSignal = (signal: NodeJS.Signals): void => this.#stop(signal);
  readonly #onException = (error: Error): void => this.#crash(error);
  #session: Session | undefined;
  #service: Service = { flush() {}, async release() {} };
  #timer: NodeJS.Timeout | undefined;
  /** The first signal that came. */
  #signal: NodeJS.Signals | undefined;
  #signalledAt = 0;
  #isDetached = false;

  /** From here on a signal no longer simply ends the process: it is about to mount. */
  constructor(image: string) {
    this.#image = image;
    for (const signal of getEndSignals()) process.on(signal, this.#onSignal);
    process.on('uncaughtException', this.#onException);
  }

  /** The file system is mounted; a signal that came meanwhile counts now. */
  mounted(session: Session, service: Service): void {
    this.#session = session;
    this.#service = service;
    if (this.#signal !== undefined) void this.#unmount(session, this.#signal);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    for (const signal of getEndSignals()) process.off(signal, this.#onSignal);
    process.off('uncaughtException', this.#onException);
  }

  #stop(signal: NodeJS.Signals): void {
    const isFirst = this.#signal === undefined;
    this.#signal ??= signal;
    if (isFirst) this.#signalledAt = performance.now();
    if (this.#session === undefined) return;
    if (isFirst) void this.#unmount(this.#session, signal);
    else if (this.#timer !== undefined || performance.now() - this.#signalledAt > SAME_SIGNAL) {
      this.#abort(this.#session);
    }
  }

  async #unmount(session: Session, signal: NodeJS.Signals): Promise<void> {
    notifyServiceManager('STOPPING=1');
    try {
      await Promise.race([this.#service.release(), tooLate()]);
      session.unmount(false);
    } catch {
      log(`${this.#image}: ${signal}: the disk is in use; its users have ${GRACE / 1000} s to finish`);
      this.#detach(session);
      this.#timer = setTimeout(() => this.#abort(session), GRACE);
    }
  }

  #detach(session: Session): void {
    if (this.#isDetached) return;
    this.#isDetached = true;
    try {
      session.unmount(true);
    } catch (error) {
      log(`${this.#image}: ${hostReason(error)}`);
    }
  }

  /** Ends the service; when that does not wake its threads, the process goes. */
  #abort(session: Session): void {
    clearTimeout(this.#timer);
    this.#detach(session);
    session.abort();
    this.#timer = setTimeout(() => void this.#end(session), ABORT_GRACE);
  }

  async #end(session: Session): Promise<void> {
    this.#tryFlush();
    log(`${this.#image}: ended while the disk was in use`);
    await Promise.race([this.#service.release().catch(() => {}), delay(RELEASE_GRACE)]);
    removeOwnState(session.device);
    exitAtOnce(1);
  }

  #tryFlush(): void {
    try {
      this.#service.flush();
    } catch (error) {
      log(`${this.#image}: the last writes may be lost: ${toErrorRecord(error).message}`);
    }
  }

  /** A bug: nothing of the mount may outlive it. */
  #crash(error: Error): void {
    try {
      log(`${this.#image}: internal error: ${error.stack ?? error.message}`);
      if (this.#session !== undefined) {
        this.#tryFlush();
        this.#detach(this.#session);
        this.#session.abort();
        removeOwnState(this.#session.device);
      }
    } finally {
      exitAtOnce(1);
    }
  }
}

/**
 * Unmounts a disk that could not be made ready. Whoever uses it already has a few seconds to finish, then their
 * requests fail; when that does not end the service, the process goes.
 * @param reason why it could not
 */
export async function withdraw(session: Session, reason: unknown): Promise<void> {
  try {
    session.unmount(true);
  } catch {
    // Somebody else has done it.
  }
  const abort = setTimeout(() => session.abort(), GRACE);
  const end = setTimeout(() => {
    log(`${toErrorRecord(reason).message}; ended while the disk was in use`);
    exitAtOnce(1);
  }, GRACE + ABORT_GRACE);
  await session.ended.catch(() => {});
  clearTimeout(abort);
  clearTimeout(end);
}

/** What is to be given back may wait for somebody else. */
async function tooLate(): Promise<never> {
  await delay(GRACE, undefined, { ref: false });
  throw new Error('it takes too long');
}
