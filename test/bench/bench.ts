/** `make bench`: reads through qcow2fs against reads through the other programs that mount qcow2, in one run. */

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CANDIDATES, type Candidate, which } from './candidates.js';
import { makeImages } from './images.js';
import { atExit, interrupt, undoAll } from './process.js';
import { report } from './report.js';
import { runPlan } from './runner.js';
import { KINDS, type Kind, WORKLOADS } from './workloads.js';

const USAGE = `usage: bench [options]
  --rounds N           how often everything is measured (3)
  --seconds N          how long each row runs (2)
  --size MIB           the disk's size in MiB (1024)
  --rows LIST          ${WORKLOADS.map((workload) => workload.name).join(',')}
  --only LIST          ${KINDS.join(',')}
  --candidates LIST    ${CANDIDATES.map((candidate) => candidate.name).join(',')}
  --dir DIR            make the images in DIR and leave them there for the next run`;

class Refusal extends Error {}

function options() {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      options: {
        rounds: text,
        seconds: text,
        size: text,
        rows: text,
        only: text,
        candidates: text,
        dir: text,
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new Refusal(`${(error as Error).message}\n${USAGE}`);
  }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = Number(text ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Refusal(`--${name}: ${text} is no positive number`);
  return value;
}

/** The members of `all` that the comma-separated `list` names, in the order of `all`. */
function select<T>(
  option: string,
  list: string | undefined,
  all: readonly T[],
  name: (item: T) => string,
): T[] {
  const wanted = list?.split(',') ?? all.map(name);
  const unknown = wanted.find((word) => !all.some((item) => name(item) === word));
  if (unknown !== undefined)
    throw new Refusal(`--${option}: no "${unknown}" among ${all.map(name).join(', ')}`);
  return all.filter((item) => wanted.includes(name(item)));
}

function needTools(): void {
  const packages = { fio: 'fio', 'qemu-img': 'qemu-utils' };
  const missing = Object.entries(packages).filter(([tool]) => which(tool) === undefined);
  if (missing.length === 0) return;
  const [tools, names] = [missing.map(([tool]) => tool), missing.map(([, name]) => name)];
  throw new Refusal(`missing: ${tools.join(', ')}\nsudo apt-get install ${names.join(' ')}`);
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

async function main(): Promise<number> {
  const given = options();
  if (given.help) {
    console.log(USAGE);
    return 0;
  }
  const rounds = positive('rounds', given.rounds, 3);
  const seconds = positive('seconds', given.seconds, 2);
  const size = positive('size', given.size, 1024) * 2 ** 20;
  const workloads = select('rows', given.rows, WORKLOADS, (workload) => workload.name);
  const kinds = select<Kind>('only', given.only, KINDS, (kind) => kind);
  const chosen = select('candidates', given.candidates, CANDIDATES, (candidate) => candidate.name);
  needTools();
  if (!existsSync('/dev/fuse')) throw new Refusal('/dev/fuse is missing: sudo modprobe fuse');
  const candidates = installed(chosen, given.candidates !== undefined);
  if (candidates.length === 0) throw new Refusal('no candidate is left');

  const dir = await realpath(await mkdtemp(join(tmpdir(), 'qcow2fs-bench-')));
  atExit(() => rm(dir, { recursive: true }));
  const imageDir = given.dir ?? dir;
  await mkdir(imageDir, { recursive: true });
  console.error(`bench: images of ${size / 2 ** 20} MiB in ${imageDir}`);
  const images = await makeImages(await realpath(imageDir), size, kinds);

  const plan = { images, candidates, workloads, rounds, seconds, size, dir };
  const { samples, failures } = await runPlan(plan, (text) => console.error(`bench: ${text}`));
  console.log(report(plan, samples));
  for (const failure of failures) console.error(`bench: FAILED ${failure}`);
  return failures.size === 0 ? 0 : 1;
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
