/** One round over the images of one kind: what is measured on whom, and how. */

import { join } from 'node:path';
import type { Candidate } from './candidates.js';
import type { Image, ImageStore } from './images.js';
import type { Kind } from './kinds.js';
import type { Mount } from './mount.js';
import { run } from './process.js';
import type { Results } from './results.js';
import { cpuRow, rowId } from './rows.js';
import type { Workload } from './workloads.js';

export interface Plan {
  readonly store: ImageStore;
  readonly kinds: readonly Kind[];
  readonly candidates: readonly Candidate[];
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  readonly seconds: number;
  /** Bytes of the disks. */
  readonly size: number;
  /** Where to mount, and where the images are that are written to. */
  readonly dir: string;
}

/** One round over the images of one kind. */
export interface Round {
  readonly plan: Plan;
  readonly results: Results;
  readonly kind: Kind;
  readonly number: number;
}

/** Notes one sample, and the CPU time it took. */
export async function measureRow(
  { plan, results, kind, number }: Round,
  workload: Workload,
  candidate: Candidate,
  mounted: Mount,
  { size }: Image,
): Promise<void> {
  const source = await plan.store.source('random');
  await results.attempt(`${candidate.name}, ${kind.name}, ${workload.name}`, async () => {
    if (workload.access === 'fill') await touchMemory(size);
    const cpuBefore = mounted.cpuSeconds();
    const target = { path: mounted.disk, size, seconds: plan.seconds, seed: number + 1, source };
    const { bytes, operations, seconds } = await workload.measure(target);
    const cpu = mounted.cpuSeconds() - cpuBefore;
    const rate = workload.unit === 'IOPS' ? operations / seconds : bytes / seconds / 1e6;
    results.note(rowId(kind, workload.name), candidate.name, rate);
    results.note(cpuRow(kind, workload), candidate.name, cpu / (bytes / 2 ** 30));
  });
}

/**
 * A virtual machine may have given its free memory back to its host, and getting it again takes longer than filling it.
 * So a process takes as much as the page cache is about to need, uses it, and ends.
 */
async function touchMemory(bytes: number): Promise<void> {
  await run(process.execPath, ['--eval', `Buffer.alloc(${bytes}, 1)`]);
}

/** The rows of this kind of image with this access. */
export function select({ plan, kind }: Round, access: Workload['access']): Workload[] {
  return plan.workloads.filter(
    (workload) => workload.access === access && workload.kinds.includes(kind.name),
  );
}

/** Who takes part, beginning with another one in each round. */
export function contenders({ plan, kind, number }: Round, writing: boolean): Candidate[] {
  const able = plan.candidates.filter(
    (candidate) => candidate.kinds.includes(kind.name) && (candidate.writes || !writing),
  );
  return rotate(able, number);
}

/** The list from another beginning each time, so that none has a better place in the order. */
export function rotate<T>(list: readonly T[], by: number): T[] {
  const first = by % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

export function mountDir({ plan }: Round, candidate: Candidate): string {
  return join(plan.dir, `${candidate.name}-mount`);
}
