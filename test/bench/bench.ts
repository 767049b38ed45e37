/** `make bench`: qcow2fs against the other programs that present qcow2 as a raw file, in one run. */

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BEFORE, type Candidate, REFERENCE, SUBJECT, which } from './candidates.js';
import { chart } from './chart.js';
import { runGrowth } from './growth.js';
import { ImageStore } from './images.js';
import { type Options, options, Refusal } from './options.js';
import { atExit, interrupt, undoAll } from './process.js';
import { report } from './report.js';
import { Results } from './results.js';
import { runRounds } from './rounds.js';
import { throughputRows } from './rows.js';
import { setting } from './setting.js';

/** Growth is measured more shortly. */
const GROWTH_ROUNDS = 3;
const GROWTH_SECONDS = 1;

function needTools(): void {
  const packages = { fio: 'fio', 'qemu-img': 'qemu-utils', 'qemu-io': 'qemu-utils' };
  const missing = Object.entries(packages).filter(([tool]) => which(tool) === undefined);
  if (missing.length === 0) return;
  const [tools, names] = [missing.map(([tool]) => tool), missing.map(([, name]) => name)];
  throw new Refusal(`missing: ${tools.join(', ')}\nsudo apt-get install ${[...new Set(names)].join(' ')}`);
}

/** Those that are installed. One that was asked for by name must be. */
function installed(candidates: readonly Candidate[], asked: boolean): Candidate[] {
  return candidates.filter((candidate) => {
    if (which(candidate.program) !== undefined) return true;
    const text = `${candidate.name} is left out, ${candidate.program} is missing: ${candidate.remedy}`;
    if (asked) throw new Refusal(text);
    console.error(`bench: ${text}`);
    return false;
  });
}

/** The directory for the images, and one for this run alone. */
async function makeDirs(kept: string | undefined): Promise<{ images: string; work: string }> {
  if (kept !== undefined) await mkdir(kept, { recursive: true });
  const work = await realpath(await mkdtemp(join(kept ?? tmpdir(), 'qcow2fs-bench-')));
  atExit(() => rm(work, { recursive: true }));
  return { images: kept === undefined ? work : await realpath(kept), work };
}

async function measureAll(
  given: Options,
  candidates: readonly Candidate[],
  dirs: { images: string; work: string },
) {
  const progress = (text: string) => console.error(`bench: ${text}`);
  const results = new Results();
  const plan = { ...given, candidates, store: new ImageStore(dirs.images, given.size), dir: dirs.work };
  if (given.growth !== 'only') await runRounds(plan, results, progress);
  if (given.growth !== 'without') {
    const two = candidates.filter(({ name }) => [SUBJECT, REFERENCE, BEFORE].includes(name));
    const short = {
      rounds: Math.min(given.rounds, GROWTH_ROUNDS),
      seconds: Math.min(given.seconds, GROWTH_SECONDS),
    };
    await runGrowth({ ...plan, ...short, candidates: two }, results, progress);
  }
  return { plan, results };
}

async function main(): Promise<number> {
  const given = options();
  if (typeof given === 'string') {
    console.log(given);
    return 0;
  }
  needTools();
  if (!existsSync('/dev/fuse')) throw new Refusal('/dev/fuse is missing: sudo modprobe fuse');
  const candidates = installed(given.candidates, given.asked);
  if (candidates.length === 0) throw new Refusal('no candidate is left');

  const dirs = await makeDirs(given.dir);
  console.error(`bench: images of ${given.size / 2 ** 20} MiB in ${dirs.images}`);
  const lines = await setting(candidates, dirs.images);
  const { plan, results } = await measureAll(given, candidates, dirs);

  const text = report(plan, results, lines);
  console.log(text);
  if (given.out !== undefined) {
    await mkdir(given.out, { recursive: true });
    await writeFile(join(given.out, 'benchmarks.md'), text);
    await writeFile(join(given.out, 'benchmarks.svg'), chart(throughputRows(plan), results));
  }
  for (const failure of results.failures) console.error(`bench: FAILED ${failure}`);
  return results.failures.size === 0 ? 0 : 1;
}

let signalled: NodeJS.Signals | undefined;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    console.error(`bench: ${name}, cleaning up`);
    signalled = name;
    interrupt();
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (signalled === undefined) {
    console.error(`bench: ${error instanceof Refusal ? error.message : (error as Error).stack}`);
  }
  process.exitCode = 1;
}
await undoAll();
if (signalled !== undefined) process.exitCode = 128 + constants.signals[signalled];
