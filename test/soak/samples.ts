/** What a daemon takes of the machine, second by second, and whether that grows. */
import fs from 'node:fs';

export interface Sample {
  /** Since the load began. */
  readonly seconds: number;
  /** VmRSS in KiB. */
  readonly rss: number;
  readonly descriptors: number;
  readonly threads: number;
}

/** @throws when the process is gone */
export function takeSample(pid: number, seconds: number): Sample {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    seconds,
    rss: number('VmRSS'),
    threads: number('Threads'),
    descriptors: fs.readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** By how much the memory of the last third may exceed that of the second one: garbage is not collected every second. */
const TOLERANCE = 1.1;

export interface Verdict {
  /** Mean VmRSS of each third in KiB. */
  readonly rss: readonly [number, number, number];
  /** The most descriptors and threads of each third. */
  readonly descriptors: readonly [number, number, number];
  readonly threads: readonly [number, number, number];
  /** What grows; empty when all is well. */
  readonly complaints: readonly string[];
}

/** The first third is left alone: caches fill. */
export function judge(samples: readonly Sample[]): Verdict {
  const third = Math.floor(samples.length / 3);
  const parts = [samples.slice(0, third), samples.slice(third, 2 * third), samples.slice(2 * third)] as const;
  const each = (of: (part: readonly Sample[]) => number): [number, number, number] => [
    of(parts[0]),
    of(parts[1]),
    of(parts[2]),
  ];
  const rss = each((part) => part.reduce((sum, sample) => sum + sample.rss, 0) / part.length);
  const descriptors = each((part) => Math.max(...part.map((sample) => sample.descriptors)));
  const threads = each((part) => Math.max(...part.map((sample) => sample.threads)));
  const complaints = [
    ...(third > 0 ? [] : ['too few samples']),
    ...(rss[2] > rss[1] * TOLERANCE ? ['memory grows'] : []),
    ...(descriptors[2] > descriptors[1] ? ['descriptors grow'] : []),
    ...(threads[2] > threads[1] ? ['threads grow'] : []),
  ];
  return { rss, descriptors, threads, complaints };
}
