/** A thread that serves requests: attaches a disk of its own to the shared layers, then answers until unmounted. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { DiskFs, type DiskFsOptions } from '../fuse/disk-fs.js';
import { Dispatcher } from '../fuse/dispatch.js';
import { serve } from '../fuse/serve.js';
import { attachDisk, type Layers } from '../qcow2/chain.js';
import { logOnce } from './log.js';

export interface WorkerData {
  readonly layers: Layers;
  readonly fsOptions: DiskFsOptions;
}

/** The descriptor of /dev/fuse, sent to the worker when the file system is mounted. */
export interface ServeMessage {
  readonly fd: number;
}

export type WorkerMessage =
  | { readonly type: 'attached' }
  | { readonly type: 'failed'; readonly error: ErrorRecord };

const port = parentPort!;
const { layers, fsOptions } = workerData as WorkerData;
const post = (message: WorkerMessage): void => port.postMessage(message);

try {
  const disk = await attachDisk(layers);
  const dispatcher = new Dispatcher(new DiskFs(disk, fsOptions), (error) =>
    logOnce(toErrorRecord(error).message),
  );
  port.once('message', ({ fd }: ServeMessage) => {
    try {
      serve(fd, dispatcher);
    } catch (error) {
      post({ type: 'failed', error: toErrorRecord(error) });
    }
    port.close();
  });
  post({ type: 'attached' });
} catch (error) {
  post({ type: 'failed', error: toErrorRecord(error) });
  port.close();
}
