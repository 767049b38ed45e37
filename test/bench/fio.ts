/** One measurement: fio run on one disk, its JSON reduced to one number. */

import { run } from './process.js';
import type { Workload } from './workloads.js';

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: FioDirection;
    readonly write: FioDirection;
  }[];
}

interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
}

export interface FioOptions {
  readonly disk: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly seconds: number;
  /** The same seed gives each candidate the same sequence of offsets. */
  readonly seed: number;
}

/** Runs `workload` on a disk; the result is in the workload's unit. */
export async function measure(
  workload: Workload,
  { disk, size, seconds, seed }: FioOptions,
): Promise<number> {
  const output = await run(
    'fio',
    [
      `--name=${workload.name}`,
      `--filename=${disk.replaceAll(':', '\\:')}`,
      `--size=${size}`,
      `--runtime=${seconds}`,
      ...(workload.duration === 'timed' ? ['--time_based'] : []),
      `--randseed=${seed}`,
      '--output-format=json',
      '--thread',
      ...workload.fio,
    ],
    { timeoutMs: (seconds + 60) * 1000 },
  );
  // fio may print notes before the report.
  const report = JSON.parse(output.slice(output.indexOf('{'))) as FioReport;
  const job = report.jobs[0];
  if (job === undefined || job.error !== 0) throw new Error(`fio ${workload.name}: error ${job?.error}`);
  return workload.unit === 'IOPS'
    ? job.read.iops + job.write.iops
    : (job.read.bw_bytes + job.write.bw_bytes) / 1e6;
}
