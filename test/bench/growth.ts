/** How speed, memory and mounting develop when something grows. Each point has a mount of its own. */

import { join } from 'node:path';
import type { Candidate } from './candidates.js';
import {
  growthId,
  MEMORY,
  type Metric,
  MOUNT,
  type Point,
  SERIES,
  type Series,
  SPEED,
} from './growth-series.js';
import { type Image, type ImageStore, warm } from './images.js';
import { mount } from './mount.js';
import { run } from './process.js';
import type { Results } from './results.js';
import { rotate } from './round.js';

export interface GrowthPlan {
  readonly store: ImageStore;
  readonly candidates: readonly Candidate[];
  readonly rounds: number;
  readonly seconds: number;
  /** Where to mount. */
  readonly dir: string;
}

export async function runGrowth(
  plan: GrowthPlan,
  results: Results,
  progress: (text: string) => void,
): Promise<void> {
  for (const point of SERIES.flatMap((series) => series.points)) await point.image(plan.store);
  await run('sync', []);
  for (let round = 0; round < plan.rounds; round++) {
    for (const series of SERIES) {
      progress(`growth, round ${round + 1} of ${plan.rounds}, ${series.name}`);
      for (const point of series.points) {
        const image = await point.image(plan.store);
        await warm(image);
        for (const candidate of rotate(plan.candidates, round)) {
          await results.attempt(`${candidate.name}, ${series.name}, ${point.label}`, () =>
            runPoint(plan, series, point, image, candidate, round + 1, results),
          );
        }
      }
    }
  }
}

async function runPoint(
  { dir, seconds }: GrowthPlan,
  series: Series,
  point: Point,
  image: Image,
  candidate: Candidate,
  seed: number,
  results: Results,
): Promise<void> {
  const note = (metric: Metric, value: number) =>
    results.note(growthId(series, metric, point), candidate.name, value);
  const mounted = await mount(candidate, image, join(dir, `${candidate.name}-growth`), true);
  try {
    note(MOUNT, mounted.firstByteMs);
    const target = { path: mounted.disk, size: image.size, seconds, seed, source: image.path };
    const transfer = await point.measure(target);
    note(SPEED, transfer.operations / transfer.seconds);
    note(MEMORY, mounted.peakRss());
  } finally {
    await mounted.unmount();
  }
}
