/** The threads that serve one mount. */
import { Worker } from 'node:worker_threads';
import { fromErrorRecord, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { allocateLookout } from '../fuse/lookout.js';
import type { DeferredReplyListener } from '../fuse/serve.js';
import { assertRoom } from '../host/limits.js';
import type { Layers } from '../qcow2/chain.js';
import type { LossesListener } from '../watched-disk.js';
import type { DaemonConfig } from './config.js';
import type { WorkerOrder, WorkerReport } from './worker.js';

const STDERR = 2;

/** A thread for a mount that is probably to come: it takes longer to load than everything else. */
let early: ServingThread | undefined;
let serving = 0;

/** Whether threads wait for requests: they end only when the file system does, and `process.exit` waits for them. */
export function threadsServe(): boolean {
  return serving > 0;
}

export function startThreadEarly(): void {
  try {
    early = new ServingThread();
  } catch {
    // Whoever needs it says why it cannot start.
  }
}

/** What a thread of Node.js takes at least: descriptors, and bytes of address space. */
const THREAD_DESCRIPTORS = 5;
const THREAD_BYTES = 600_000 * 1024;

/**
 * The threads of a mount to come: none where libfuse serves, in the main thread.
 * @throws Qcow2fsError `host-io` where the limits leave no room for them
 */
export function startThreads({ transport, threads, log, errorMap }: DaemonConfig): ThreadPool {
  const more = transport === 'kernel' ? threads - (early === undefined ? 0 : 1) : 0;
  if (more > 0) assertRoom(more * THREAD_DESCRIPTORS, 0, more * THREAD_BYTES);
  return new ThreadPool(transport === 'kernel' ? threads : 0, log !== undefined, errorMap !== undefined);
}

export class ThreadPool {
  /** They load while the image is opened. */
  readonly #threads: readonly ServingThread[];
  readonly #syslog: boolean;
  readonly #watchReads: boolean;
  #onOverrun: () => void = () => {};
  #onDeferredReply: DeferredReplyListener = () => {};
  #onLosses: LossesListener = () => {};

  constructor(count: number, syslog: boolean, watchReads: boolean) {
    this.#syslog = syslog;
    this.#watchReads = watchReads;
    if (count === 0) early?.terminate();
    this.#threads = Array.from({ length: count }, (_, index) =>
      index === 0 && early !== undefined ? early : new ServingThread(),
    );
    early = undefined;
  }

  /**
   * Settles when all threads can serve.
   * @param failures of a `FailureLog`
   */
  async attach(layers: Layers, fsOptions: DiskFsOptions, failures: SharedArrayBuffer): Promise<void> {
    const how = { syslog: this.#syslog, watchReads: this.#watchReads };
    const order: WorkerOrder = { type: 'attach', layers, fsOptions, failures, ...how };
    await Promise.all(this.#threads.map((thread) => thread.attach(order)));
  }

  /**
   * Settles when all threads have ended because the file system was unmounted; rejects as soon as one breaks down.
   * @param fd /dev/fuse
   */
  async serve(fd: number): Promise<void> {
    const lookout = allocateLookout();
    const serve = async (thread: ServingThread, index: number): Promise<void> => {
      thread.onOverrun(() => this.#onOverrun());
      thread.onDeferredReply((source, reply) => this.#onDeferredReply(source, reply));
      thread.onLosses((losses) => this.#onLosses(losses));
      serving++;
      thread.onExit(() => serving--);
      await thread.run({ type: 'serve', fd, lookout, thread: index + 1 });
    };
    await Promise.all(this.#threads.map(serve));
  }

  /** @param listener called whenever the kernel's page cache took bytes beyond the end of the disk */
  onOverrun(listener: () => void): void {
    this.#onOverrun = listener;
  }

  onDeferredReply(listener: DeferredReplyListener): void {
    this.#onDeferredReply = listener;
  }

  /** @param listener told of what cannot be read, where reads are watched */
  onLosses(listener: LossesListener): void {
    this.#onLosses = listener;
  }

  /** For threads that do not serve yet: one that waits for a request cannot be ended from inside the process. */
  terminate(): void {
    for (const thread of this.#threads) thread.terminate();
  }
}

/** Traces, to wherever standard error leads by now. */
function passOn(text: Buffer): void {
  try {
    fs.writeSync(STDERR, text);
  } catch {
    // Nobody reads it.
  }
}

/** @throws Qcow2fsError `host-io` */
function startWorker(): Worker {
  try {
    return new Worker(new URL('./worker.js', import.meta.url), { stdout: true, stderr: true });
  } catch (error) {
    const reason = hostReason(error);
    throw new Qcow2fsError('host-io', `cannot start a thread: ${reason}; raise the limits: ulimit -u, -v`);
  }
}

class ServingThread {
  /**
   * With streams of its own: joining them to those of the process would make the pipes of whoever called it
   * non-blocking, and would hold a terminal.
   */
  readonly #worker = startWorker();
  /** Fulfilled when the thread ended well; rejects when it broke down. */
  readonly #ended: Promise<void>;

  constructor() {
    for (const output of [this.#worker.stdout, this.#worker.stderr]) output.on('data', passOn);
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.on('message', (report: WorkerReport) => {
        if (report.type === 'failed') reject(fromErrorRecord(report.error));
      });
      this.#worker.on('error', (error) => {
        reject(new Qcow2fsError('internal', `a thread died: ${error.message}`));
      });
      this.#worker.on('exit', (code) => {
        if (code === 0) resolve();
        else reject(new Qcow2fsError('internal', `a thread died with exit code ${code}`));
      });
    });
    // Whoever waits for the thread learns of its failure; before that nobody does, and that must not end the process.
    this.#ended.catch(() => {});
  }

  attach(order: WorkerOrder): Promise<void> {
    const attached = new Promise<void>((resolve) => {
      this.#worker.on('message', (report: WorkerReport) => {
        if (report.type === 'attached') resolve();
      });
    });
    this.#worker.postMessage(order);
    return Promise.race([attached, this.#ended]);
  }

  run(order: WorkerOrder): Promise<void> {
    this.#worker.postMessage(order);
    return this.#ended;
  }

  onOverrun(listener: () => void): void {
    this.#worker.on('message', (report: WorkerReport) => {
      if (report.type === 'overrun') listener();
    });
  }

  onDeferredReply(listener: DeferredReplyListener): void {
    this.#worker.on('message', (report: WorkerReport) => {
      if (report.type === 'deferred') listener(report.fd, report.reply);
    });
  }

  onLosses(listener: LossesListener): void {
    this.#worker.on('message', (report: WorkerReport) => {
      if (report.type === 'losses') listener(report.losses);
    });
  }

  onExit(listener: () => void): void {
    this.#worker.on('exit', listener);
  }

  terminate(): void {
    void this.#worker.terminate();
  }
}
