/** The rows of the table: what is done to the disk of which images. A new row needs no other change. */

import type { KindName } from './kinds.js';
import { dd, fio, type Measure } from './measure.js';

export interface Workload {
  readonly name: string;
  readonly title: string;
  /** What the row is judged by. */
  readonly unit: 'IOPS' | 'MB/s';
  readonly kinds: readonly KindName[];
  /** `read`: a read-only mount; `write`: an image that is fully allocated; `fill`: an empty image each time. */
  readonly access: 'read' | 'write' | 'fill';
  readonly measure: Measure;
  /** The title under which the CPU time of the daemon is shown. */
  readonly cpu?: string;
}

const DIRECT = ['--direct=1', '--norandommap'];
const QD1 = ['--ioengine=psync', ...DIRECT];
const QD8 = ['--ioengine=libaio', '--iodepth=8', ...DIRECT];
const QD16 = ['--ioengine=libaio', '--iodepth=16', ...DIRECT];
const UNCOMPRESSED = ['plain', 'luks'] as const;

const READING: readonly Workload[] = [
  {
    name: 'rand4k-qd1',
    title: '4k random read, QD1',
    unit: 'IOPS',
    kinds: ['plain', 'luks', 'zlib', 'zstd'],
    access: 'read',
    measure: fio('timed', '--rw=randread', '--bs=4k', ...QD1),
  },
  {
    name: 'rand4k-qd16',
    title: '4k random read, QD16',
    unit: 'IOPS',
    kinds: ['plain', 'luks', 'chain'],
    access: 'read',
    measure: fio('timed', '--rw=randread', '--bs=4k', ...QD16),
  },
  {
    name: 'read1m-qd8',
    title: '1 MiB read, QD8',
    unit: 'MB/s',
    kinds: UNCOMPRESSED,
    access: 'read',
    measure: fio('timed', '--rw=read', '--bs=1m', ...QD8),
    cpu: 'CPU time, 1 MiB read',
  },
  {
    name: 'buffered',
    title: 'buffered sequential read',
    unit: 'MB/s',
    kinds: ['plain', 'luks', 'zlib', 'zstd'],
    access: 'read',
    // invalidate=1 drops what the kernel has cached of the FUSE file, and a second pass would measure that cache; the
    // image stays in the host's page cache.
    measure: fio('once', '--rw=read', '--bs=128k', '--ioengine=psync', '--direct=0', '--invalidate=1'),
  },
];

const WRITING: readonly Workload[] = [
  {
    name: 'write4k-qd1',
    title: '4k random write, QD1',
    unit: 'IOPS',
    kinds: UNCOMPRESSED,
    access: 'write',
    measure: fio('timed', '--rw=randwrite', '--bs=4k', ...QD1),
  },
  {
    name: 'write4k-qd16',
    title: '4k random write, QD16',
    unit: 'IOPS',
    kinds: UNCOMPRESSED,
    access: 'write',
    measure: fio('timed', '--rw=randwrite', '--bs=4k', ...QD16),
  },
  {
    name: 'write4k-buffered',
    title: '4k random write, buffered + fsync',
    unit: 'IOPS',
    kinds: ['plain'],
    access: 'write',
    // The kernel may keep such writes back. So the time until the final fsync returns counts, and no block is written
    // twice, as the kernel would pass it on only once: every write that counts has reached the daemon.
    measure: fio('once', '--rw=randwrite', '--bs=4k', '--ioengine=psync', '--direct=0', '--end_fsync=1'),
  },
  {
    name: 'write1m-qd8',
    title: '1 MiB write, QD8',
    unit: 'MB/s',
    kinds: ['plain'],
    access: 'write',
    measure: fio('timed', '--rw=write', '--bs=1m', ...QD8),
    cpu: 'CPU time, 1 MiB write',
  },
];

const FILLING: readonly Workload[] = [
  {
    name: 'fill1m-qd1',
    title: 'filling, 1 MiB, QD1',
    unit: 'MB/s',
    kinds: UNCOMPRESSED,
    access: 'fill',
    measure: fio('once', '--rw=write', '--bs=1m', ...QD1),
  },
  {
    name: 'fill1m-qd8',
    title: 'filling, 1 MiB, QD8',
    unit: 'MB/s',
    kinds: UNCOMPRESSED,
    access: 'fill',
    measure: fio('once', '--rw=write', '--bs=1m', ...QD8),
    cpu: 'CPU time, filling',
  },
  {
    name: 'fill-dd',
    title: 'filling, dd bs=1M conv=fsync',
    unit: 'MB/s',
    kinds: ['plain'],
    access: 'fill',
    measure: dd,
  },
];

export const WORKLOADS: readonly Workload[] = [...READING, ...WRITING, ...FILLING];
