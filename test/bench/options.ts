/** The command line. */

import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CANDIDATES, type Candidate, earlier, SUBJECT } from './candidates.js';
import { KINDS, type Kind } from './kinds.js';
import { WORKLOADS, type Workload } from './workloads.js';

const GROWTH = ['with', 'without', 'only'] as const;

const USAGE = `usage: bench [options]
  --rounds N           how often everything is measured (5)
  --seconds N          how long each row runs (4)
  --size MIB           the disk's size in MiB (512)
  --rows LIST          ${wrap(WORKLOADS.map((workload) => workload.name))}
  --only LIST          ${KINDS.map((kind) => kind.name).join(',')}
  --candidates LIST    ${CANDIDATES.map((candidate) => candidate.name).join(',')} (libfuse only on request)
  --before DIR         another checkout of qcow2fs, built: only that is compared, unless others are named
  --growth WHETHER     ${GROWTH.join(',')}: measure also, not or nothing but what growth does
  --dir DIR            make the images in DIR and leave them there for the next run
  --out DIR            write benchmarks.md and benchmarks.svg there`;

export interface Options {
  readonly rounds: number;
  readonly seconds: number;
  /** In bytes. */
  readonly size: number;
  readonly workloads: readonly Workload[];
  readonly kinds: readonly Kind[];
  readonly candidates: readonly Candidate[];
  /** The candidates were asked for by name. */
  readonly asked: boolean;
  readonly growth: (typeof GROWTH)[number];
  readonly dir: string | undefined;
  readonly out: string | undefined;
}

/** The benchmark cannot run; the message says why. */
export class Refusal extends Error {}

/** The usage, if that was asked for. */
export function options(): Options | string {
  const given = parse();
  if (given.help) return USAGE;
  return {
    rounds: positive('rounds', given.rounds, 5),
    seconds: positive('seconds', given.seconds, 4),
    size: positive('size', given.size, 512) * 2 ** 20,
    workloads: select('rows', given.rows, WORKLOADS, (workload) => workload.name),
    kinds: select('only', given.only, KINDS, (kind) => kind.name),
    candidates: candidatesOf(given.candidates, given.before),
    asked: given.candidates !== undefined || given.before !== undefined,
    growth: select('growth', given.growth ?? 'with', GROWTH, (word) => word)[0] ?? 'with',
    dir: given.dir,
    out: given.out,
  };
}

function parse() {
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
        before: text,
        growth: text,
        dir: text,
        out: text,
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

/** Without a list, all but those that are measured on request. */
function candidatesOf(list: string | undefined, before: string | undefined): Candidate[] {
  if (before !== undefined) {
    return [
      ...select('candidates', list ?? SUBJECT, CANDIDATES, ({ name }) => name),
      earlier(resolve(before)),
    ];
  }
  const usual = CANDIDATES.filter(({ onRequest }) => onRequest !== true).map(({ name }) => name);
  return select('candidates', list ?? usual.join(','), CANDIDATES, ({ name }) => name);
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

/** A list over several lines of the usage. */
function wrap(names: readonly string[]): string {
  const lines = Array.from({ length: Math.ceil(names.length / 4) }, (_, i) => names.slice(i * 4, i * 4 + 4));
  return lines.map((line) => line.join(',')).join(`,\n${' '.repeat(23)}`);
}
