/**
 * A thread that serves requests. It loads the program while the image is still being opened, then attaches a disk of
 * its own to the shared layers, then answers until unmounted.
 */
import { parentPort } from 'node:worker_threads';
import type { Disk } from '../disk.js';
import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { Dispatcher } from '../fuse/dispatch.js';
import { Lookout } from '../fuse/lookout.js';
import { allocateBuffers, type Buffers, serve } from '../fuse/serve.js';
import { becomeIoFlusher } from '../host/io-flusher.js';
import { openSyslog } from '../host/syslog.js';
import { onNotice } from '../notice.js';
import { attachDisk, type Layers } from '../qcow2/chain.js';
import type { Loss } from '../salvage.js';
import { WatchedDisk } from '../watched-disk.js';
import { FailureLog } from './log.js';

/** What a thread is told: first what to serve, then on which descriptor of /dev/fuse. */
export type WorkerOrder =
  | {
      readonly type: 'attach';
      readonly layers: Layers;
      readonly fsOptions: DiskFsOptions;
      /** Of a `FailureLog`. */
      readonly failures: SharedArrayBuffer;
      /** The system's log gets what is logged, too. */
      readonly syslog: boolean;
      /** What cannot be read is reported. */
      readonly watchReads: boolean;
    }
  | {
      readonly type: 'serve';
      readonly fd: number;
      /** Of `allocateLookout`. */
      readonly lookout: SharedArrayBuffer;
      /** The number of the thread, from 1. */
      readonly thread: number;
    };

export type WorkerReport =
  | { readonly type: 'attached' }
  /** The kernel's page cache took bytes beyond the end of the disk. */
  | { readonly type: 'overrun' }
  /** A reply that has to wait until the kernel knows the modification time; `fd` is where it goes. */
  | { readonly type: 'deferred'; readonly fd: number; readonly reply: Uint8Array }
  /** What cannot be read, and was not reported before. */
  | { readonly type: 'losses'; readonly losses: readonly Loss[] }
  | { readonly type: 'failed'; readonly error: ErrorRecord };

const port = parentPort!;
let disk: Disk | undefined;
let dispatcher: Dispatcher | undefined;
let buffers: Buffers | undefined;

async function obey(order: WorkerOrder): Promise<void> {
  switch (order.type) {
    case 'attach': {
      if (order.syslog) openSyslog();
      disk = await attachDisk(order.layers);
      if (!disk.readOnly) becomeIoFlusher();
      const watched = order.watchReads ? new WatchedDisk(disk, reportLosses) : undefined;
      disk = watched ?? disk;
      const failures = new FailureLog(order.failures);
      onNotice((message, missing) => {
        failures.note(message);
        if (missing !== undefined) watched?.miss(missing, message);
      });
      dispatcher = new Dispatcher(new DiskFs(disk, order.fsOptions), failures.add, () =>
        port.postMessage({ type: 'overrun' } satisfies WorkerReport),
      );
      buffers = allocateBuffers();
      port.postMessage({ type: 'attached' } satisfies WorkerReport);
      return;
    }
    case 'serve':
      serve(order.fd, buffers!, new Lookout(order.lookout, order.thread), dispatcher!, disk!, (fd, reply) =>
        port.postMessage({ type: 'deferred', fd, reply } satisfies WorkerReport),
      );
      port.close();
  }
}

function reportLosses(losses: readonly Loss[]): void {
  port.postMessage({ type: 'losses', losses } satisfies WorkerReport);
}

port.on('message', (order: WorkerOrder) => {
  obey(order).catch((error: unknown) => {
    port.postMessage({ type: 'failed', error: toErrorRecord(error) } satisfies WorkerReport);
    port.close();
  });
});
