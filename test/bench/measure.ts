/** One measurement: fio or dd run on one disk. */

import { run } from './process.js';

/** The disk that is measured. */
export interface Target {
  readonly path: string;
  /** Bytes of the disk. */
  readonly size: number;
  readonly seconds: number;
  /** The same seed gives each candidate the same sequence of offsets. */
  readonly seed: number;
  /** A file in the page cache, as large as the disk and full of random bytes. */
  readonly source: string;
}

/** What has been read or written. */
export interface Transfer {
  readonly bytes: number;
  readonly operations: number;
  readonly seconds: number;
}

export type Measure = (target: Target) => Promise<Transfer>;

interface Direction {
  readonly io_bytes: number;
  readonly total_ios: number;
  /** In milliseconds; includes what --end_fsync takes. */
  readonly runtime: number;
}

interface FioReport {
  readonly jobs: readonly { readonly error: number; readonly read: Direction; readonly write: Direction }[];
}

/**
 * Runs fio.
 * @param duration `timed`: repeat until the time is over; `once`: end with the disk, even if that is sooner
 * @param options apart from the file, its size and the duration
 */
export function fio(duration: 'timed' | 'once', ...options: readonly string[]): Measure {
  return async ({ path, size, seconds, seed }) => {
    const output = await run(
      'fio',
      [
        '--name=bench',
        `--filename=${path.replaceAll(':', '\\:')}`,
        `--size=${size}`,
        `--runtime=${seconds}`,
        ...(duration === 'timed' ? ['--time_based'] : []),
        `--randseed=${seed}`,
        '--allow_file_create=0',
        '--output-format=json',
        '--thread',
        ...options,
      ],
      { timeoutMs: (seconds + 60) * 1000 },
    );
    // fio may print notes before the report.
    const report = JSON.parse(output.slice(output.indexOf('{'))) as FioReport;
    const job = report.jobs[0];
    if (job === undefined || job.error !== 0) throw new Error(`fio: error ${job?.error}`);
    const done = job.read.io_bytes > 0 ? job.read : job.write;
    return { bytes: done.io_bytes, operations: done.total_ios, seconds: done.runtime / 1000 };
  };
}

/** Fills the disk with dd, and waits until the data is on stable storage. */
export async function dd({ path, source, size }: Target): Promise<Transfer> {
  const started = performance.now();
  await run('dd', [`if=${source}`, `of=${path}`, 'bs=1M', 'conv=notrunc,fsync', 'status=none']);
  return { bytes: size, operations: size / 2 ** 20, seconds: (performance.now() - started) / 1000 };
}
