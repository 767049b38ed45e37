/** The rounds: each row goes over the candidates in turn (A B C A B C ...), and another one begins each round. */

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Candidate } from './candidates.js';
import { warmFile } from './content.js';
import { copy, type Image, settle, warm } from './images.js';
import { type Mount, mount } from './mount.js';
import { run } from './process.js';
import type { Results } from './results.js';
import { contenders, measureRow, mountDir, type Plan, type Round, select } from './round.js';
import { FIRST_BYTE, PEAK_READING, PEAK_WRITING, rowId } from './rows.js';
import type { Workload } from './workloads.js';

export async function runRounds(
  plan: Plan,
  results: Results,
  progress: (text: string) => void,
): Promise<void> {
  await prepare(plan);
  for (let number = 0; number < plan.rounds; number++) {
    for (const kind of plan.kinds) {
      progress(`round ${number + 1} of ${plan.rounds}, ${kind.title}`);
      const round = { plan, results, kind, number };
      await readAll(round);
      await writeAll(round);
      await fillAll(round);
    }
  }
}

/** Makes all images before the first measurement, and leaves none of it in memory alone. */
async function prepare({ store, kinds, workloads }: Plan): Promise<void> {
  await store.source('random');
  for (const kind of kinds) {
    for (const { access } of workloads.filter((workload) => workload.kinds.includes(kind.name))) {
      await (access === 'fill' ? store.empty(kind) : store.filled(kind));
    }
  }
  await run('sync', []);
}

/** All candidates mount the same image. */
async function readAll(round: Round): Promise<void> {
  const workloads = select(round, 'read');
  if (workloads.length === 0) return;
  const image = await round.plan.store.filled(round.kind);
  await warm(image);
  await alternate(round, workloads, contenders(round, false), true, async () => image);
}

/** Each candidate has a copy of its own, for all rounds. */
async function writeAll(round: Round): Promise<void> {
  const workloads = select(round, 'write');
  if (workloads.length === 0) return;
  const image = await round.plan.store.filled(round.kind);
  await alternate(round, workloads, contenders(round, true), false, async (candidate) => {
    const path = join(round.plan.dir, `${candidate.name}-${round.kind.name}.qcow2`);
    if (existsSync(path)) await warmFile(path);
    else await settle(await copy(image, path));
    return { ...image, path };
  });
}

async function alternate(
  round: Round,
  workloads: readonly Workload[],
  candidates: readonly Candidate[],
  readOnly: boolean,
  imageOf: (candidate: Candidate) => Promise<Image>,
): Promise<void> {
  const { kind, results } = round;
  const mounts = new Map<Candidate, { mounted: Mount; image: Image }>();
  try {
    for (const candidate of candidates) {
      await results.attempt(`${candidate.name}, ${kind.name}`, async () => {
        const image = await imageOf(candidate);
        const mounted = await mount(candidate, image, mountDir(round, candidate), readOnly);
        mounts.set(candidate, { mounted, image });
        if (readOnly) results.note(rowId(kind, FIRST_BYTE), candidate.name, mounted.firstByteMs);
      });
    }
    for (const workload of workloads) {
      for (const [candidate, { mounted, image }] of mounts) {
        await measureRow(round, workload, candidate, mounted, image);
        if (!readOnly) await settle(image);
      }
    }
    const peak = rowId(kind, readOnly ? PEAK_READING : PEAK_WRITING);
    for (const [candidate, { mounted }] of mounts) results.note(peak, candidate.name, mounted.peakRss());
  } finally {
    for (const { mounted } of mounts.values()) await mounted.unmount();
  }
}

/** Every measurement has an empty image of its own, which is gone before the next one. */
async function fillAll(round: Round): Promise<void> {
  const { plan, kind, results } = round;
  const workloads = select(round, 'fill');
  if (workloads.length > 0) await warmFile(await plan.store.source('random'));
  for (const workload of workloads) {
    for (const candidate of contenders(round, true)) {
      await results.attempt(`${candidate.name}, ${kind.name}, ${workload.name}`, async () => {
        const path = join(plan.dir, 'empty.qcow2');
        const image = await copy(await plan.store.empty(kind), path);
        const mounted = await mount(candidate, image, mountDir(round, candidate), false);
        try {
          await measureRow(round, workload, candidate, mounted, image);
        } finally {
          await mounted.unmount();
          await rm(path);
        }
      });
    }
  }
}
