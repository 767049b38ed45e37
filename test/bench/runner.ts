/** The rounds: everything is mounted at once, and each row goes over the candidates in turn (A B C A B C ...). */

import { join } from 'node:path';
import type { Candidate } from './candidates.js';
import { measure } from './fio.js';
import { type Image, warm } from './images.js';
import { type Mount, mount } from './mount.js';
import { isInterrupted } from './process.js';
import type { Kind, Workload } from './workloads.js';

export interface Plan {
  readonly images: readonly Image[];
  readonly candidates: readonly Candidate[];
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  readonly seconds: number;
  /** The disks' virtual size in bytes. */
  readonly size: number;
  /** Where to mount. */
  readonly dir: string;
}

/** One number out of one round. */
export interface Sample {
  readonly kind: Kind;
  /** A workload's name, or one of the two things noted for each mount. */
  readonly row: string;
  readonly candidate: string;
  readonly value: number;
}

export const FIRST_BYTE = 'mount to first byte';
export const PEAK_RSS = 'peak RSS';

export interface Outcome {
  readonly samples: Sample[];
  /** One line for each thing that failed, and so is not in the samples. */
  readonly failures: Set<string>;
}

export async function runPlan(plan: Plan, progress: (text: string) => void): Promise<Outcome> {
  const outcome: Outcome = { samples: [], failures: new Set() };
  for (let round = 0; round < plan.rounds; round++) {
    for (const image of plan.images) {
      await warm(image);
      progress(`round ${round + 1} of ${plan.rounds}, ${image.kind}`);
      await runRound(plan, image, round, outcome);
    }
  }
  return outcome;
}

async function runRound(plan: Plan, image: Image, round: number, outcome: Outcome): Promise<void> {
  const note = (row: string, candidate: Candidate, value: number) =>
    outcome.samples.push({ kind: image.kind, row, candidate: candidate.name, value });
  const mounts = new Map<Candidate, Mount>();
  try {
    // Another candidate begins each round, so that none has a better place in the order.
    for (const candidate of rotate(plan.candidates, round)) {
      if (!candidate.kinds.includes(image.kind)) continue;
      const dir = join(plan.dir, `${candidate.name}-${image.kind}-${round}`);
      await attempt(outcome, `${candidate.name}, ${image.kind}`, async () => {
        const mounted = await mount(candidate, image.path, image.secret, dir, plan.size);
        mounts.set(candidate, mounted);
        note(FIRST_BYTE, candidate, mounted.firstByteMs);
      });
    }
    for (const workload of plan.workloads) {
      for (const [candidate, { disk }] of mounts) {
        await attempt(outcome, `${candidate.name}, ${image.kind}, ${workload.name}`, async () => {
          const options = { disk, size: plan.size, seconds: plan.seconds, seed: round + 1 };
          note(workload.name, candidate, await measure(workload, options));
        });
      }
    }
    for (const [candidate, mounted] of mounts) note(PEAK_RSS, candidate, mounted.peakRss());
  } finally {
    for (const mounted of mounts.values()) await mounted.unmount();
  }
}

/** A failing candidate leaves a gap in the table; the others go on. */
async function attempt(outcome: Outcome, what: string, action: () => Promise<void>): Promise<void> {
  if (isInterrupted()) throw new Error('interrupted');
  try {
    await action();
  } catch (error) {
    if (isInterrupted()) throw error;
    outcome.failures.add(`${what}: ${(error as Error).message}`);
  }
}

function rotate<T>(list: readonly T[], by: number): T[] {
  const first = by % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}
