/** The threads that serve one mount. */
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { fromErrorRecord, Qcow2fsError } from '../errors.js';
import type { DiskFsOptions } from '../fuse/disk-fs.js';
import { allocateLookout } from '../fuse/lookout.js';
import type { Layers } from '../qcow2/chain.js';
import type { LossesListener } from '../watched-disk.js';
import type { DaemonConfig } from './config.js';
import type { WorkerOrder, WorkerReport } from './worker.js';

const STDERR = 2;

/** A thread for a mount that is probably to come: it takes longer to load than everything else. */
let early: ServingThread | undefined;

export function startThreadEarly(): void {
  early = new ServingThread();
}

/** The threads of a mount to come: none where libfuse serves, in the main thread. */
export function startThreads({ transport, threads, log, errorMap }: DaemonConfig): ThreadPool {
  return new ThreadPool(transport === 'kernel' ? threads : 0, log !== undefined, errorMap !== undefined);
}

export class ThreadPool {
  /** The first one starts loading at once, so that it is ready when the image is; the others when it serves. */
  readonly #first: ServingThread | undefined;
  #others: readonly ServingThread[] = [];
  readonly #count: number;
  readonly #syslog: boolean;
  readonly #watchReads: boolean;
  #attach: WorkerOrder | undefined;
  #onOverrun: () => void = () => {};
  #onLosses: LossesListener = () => {};

  constructor(count: number, syslog: boolean, watchReads: boolean) {
    this.#count = count;
    this.#syslog = syslog;
    this.#watchReads = watchReads;
    if (count > 0) this.#first = early ?? new ServingThread();
    else early?.terminate();
    early = undefined;
  }

  /**
   * Settles when a thread can serve.
   * @param failures of a `FailureLog`
   */
  async attach(layers: Layers, fsOptions: DiskFsOptions, failures: SharedArrayBuffer): Promise<void> {
    const how = { syslog: this.#syslog, watchReads: this.#watchReads };
    this.#attach = { type: 'attach', layers, fsOptions, failures, ...how };
    await this.#first?.attach(this.#attach);
  }

  /**
   * Settles when all threads have ended because the file system was unmounted; rejects as soon as one breaks down.
   * @param fd /dev/fuse
   */
  async serve(fd: number): Promise<void> {
    const lookout = allocateLookout();
    const serve = async (thread: ServingThread, index: number): Promise<void> => {
      thread.onOverrun(() => this.#onOverrun());
      thread.onLosses((losses) => this.#onLosses(losses));
      await thread.run({ type: 'serve', fd, lookout, thread: index + 1 });
    };
    const first = this.#first && serve(this.#first, 0);
    this.#others = Array.from({ length: Math.max(0, this.#count - 1) }, () => new ServingThread());
    const others = this.#others.map(async (thread, index) => {
      await thread.attach(this.#attach!);
      await serve(thread, index + 1);
    });
    await Promise.all([first, ...others]);
  }

  /** @param listener called whenever the kernel has another idea of the disk's size */
  onOverrun(listener: () => void): void {
    this.#onOverrun = listener;
  }

  /** @param listener told of what cannot be read, where reads are watched */
  onLosses(listener: LossesListener): void {
    this.#onLosses = listener;
  }

  /** For threads that do not serve yet: one that waits for a request cannot be ended from inside the process. */
  terminate(): void {
    for (const thread of [this.#first, ...this.#others]) thread?.terminate();
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

class ServingThread {
  /**
   * With streams of its own: joining them to those of the process would make the pipes of whoever called it
   * non-blocking, and would hold a terminal.
   */
  readonly #worker = new Worker(new URL('./worker.js', import.meta.url), { stdout: true, stderr: true });
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

  onLosses(listener: LossesListener): void {
    this.#worker.on('message', (report: WorkerReport) => {
      if (report.type === 'losses') listener(report.losses);
    });
  }

  terminate(): void {
    void this.#worker.terminate();
  }
}
