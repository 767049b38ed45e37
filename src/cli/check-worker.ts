/** The thread that checks: the main one is the terminal's. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorRecord, toErrorRecord } from '../errors.js';
import { Progress } from '../progress.js';
import { type CheckReport, type CheckRequest, checkFile } from '../qcow2/check/check-file.js';
import { Cancelled } from '../qcow2/check/reference-scan.js';

export interface CheckOrder {
  readonly request: CheckRequest;
  /** Of a `Progress`. */
  readonly progress: SharedArrayBuffer;
}

export type CheckOutcome =
  | { readonly type: 'done'; readonly report: CheckReport }
  | { readonly type: 'cancelled' }
  | { readonly type: 'failed'; readonly error: ErrorRecord };

async function run({ request, progress }: CheckOrder): Promise<CheckOutcome> {
  try {
    return { type: 'done', report: await checkFile(request, new Progress(progress)) };
  } catch (error) {
    return error instanceof Cancelled
      ? { type: 'cancelled' }
      : { type: 'failed', error: toErrorRecord(error) };
  }
}

parentPort!.postMessage(await run(workerData as CheckOrder));
