/** The rows of the table: what fio does to the disk. A new row needs no other change. */

export const KINDS = ['plain', 'luks'] as const;
/** Which of the two images a row is run on. */
export type Kind = (typeof KINDS)[number];

export interface Workload {
  readonly name: string;
  readonly title: string;
  /** What the row is judged by. */
  readonly unit: 'IOPS' | 'MB/s';
  /** fio's options, apart from the file, the size and the duration. */
  readonly fio: readonly string[];
  /**
   * `timed`: repeat until the time is over. `once`: end with the disk, even if that is sooner, because a second
   * pass over a buffered file would measure the kernel's page cache.
   */
  readonly duration: 'timed' | 'once';
}

const direct = ['--direct=1', '--norandommap'];

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'rand4k-qd1',
    title: '4k random read, QD1',
    unit: 'IOPS',
    fio: ['--rw=randread', '--bs=4k', '--ioengine=psync', ...direct],
    duration: 'timed',
  },
  {
    name: 'rand4k-qd16',
    title: '4k random read, QD16',
    unit: 'IOPS',
    fio: ['--rw=randread', '--bs=4k', '--ioengine=libaio', '--iodepth=16', ...direct],
    duration: 'timed',
  },
  {
    name: 'read1m-qd8',
    title: '1 MiB read, QD8',
    unit: 'MB/s',
    fio: ['--rw=read', '--bs=1m', '--ioengine=libaio', '--iodepth=8', ...direct],
    duration: 'timed',
  },
  {
    name: 'buffered',
    title: 'buffered sequential read',
    unit: 'MB/s',
    // invalidate=1 drops what the kernel has cached of the FUSE file; the image stays in the host's page cache.
    fio: ['--rw=read', '--bs=128k', '--ioengine=psync', '--direct=0', '--invalidate=1'],
    duration: 'once',
  },
];
