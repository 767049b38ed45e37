/**
 * A tool for reviewers: does the suite notice mistakes? Plants faults in copies of a checkout, one at a time, and tells
 * which test fails first.
 *
 *     node dist/test/faults/plant.js [--only REGEX] [--jobs N] [--out FILE.json] [--report]
 *
 * By default only the suspects of a fault are run. The other test files:
 *     --all-tests           after the suspects all others
 *     --tests 'PATTERN...'  these instead of the suspects, as `make test TESTS=...` takes them
 *     --skip REGEX          leaves out files of these names, below dist/test
 *     --checkout DIR        the tests of another checkout, for its copy of the same sources
 *     --minutes N           for one test file (15)
 *     --lane NAME           as much of each as `check`, `test` (the default) or `long`; see test/support/lane.ts
 * --report prints a table in Markdown. The exit status is 0 when every fault was caught.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../support/qcow2fs.js';
import { matching } from '../support/suite-plan.js';
import { Copy } from './copy.js';
import { areaOf, type Fault } from './fault.js';
import { FAULTS } from './faults.js';

type Outcome =
  | { readonly result: 'caught' | 'timeout'; readonly file: string; readonly title: string }
  | { readonly result: 'not caught'; readonly files: number }
  | { readonly result: 'does not build' | 'does not fit' | 'interrupted'; readonly why: string };

interface Planted {
  readonly fault: Fault;
  readonly outcome: Outcome;
  readonly seconds: number;
}

/** These look at the source or at the faults themselves, so they would see every fault. */
const BLIND: ReadonlySet<string> = new Set(['unit/support/faults']);

const text = { type: 'string' } as const;
const flag = { type: 'boolean', default: false } as const;
const { values } = parseArgs({
  options: {
    only: { ...text, default: '' },
    jobs: { ...text, default: '1' },
    tests: text,
    skip: text,
    'all-tests': flag,
    lane: text,
    checkout: { ...text, default: ROOT },
    minutes: { ...text, default: '15' },
    out: text,
    report: flag,
  },
});
const minutes = Number(values.minutes);
const print = (line: string): unknown => process.stdout.write(`${line}\n`);
const results: Planted[] = [];
if (values.lane !== undefined) process.env['QCOW2FS_LANE'] = values.lane;
let interruption: string | undefined;

/** What to run, in order. */
function filesFor({ suspects }: Fault, all: readonly string[]): string[] {
  if (values.tests !== undefined) {
    const named = matching(
      all.map((name) => `dist/test/${name}.test.js`),
      values.tests.split(' '),
    );
    return all.filter((name) => named.includes(`dist/test/${name}.test.js`));
  }
  const first = suspects.flatMap((start) => all.filter((name) => name.startsWith(start)));
  return [...new Set([...first, ...(values['all-tests'] ? all : [])])];
}

/** Quick ones first. */
function testFiles(copy: Copy): string[] {
  const skipped = values.skip === undefined ? undefined : new RegExp(values.skip);
  const names = copy.testFiles().filter((name) => !BLIND.has(name) && !skipped?.test(name));
  const isUnit = (name: string): number => Number(!name.startsWith('unit/'));
  return names.sort((a, b) => isUnit(a) - isUnit(b) || (a < b ? -1 : 1));
}

/** A test that fails without any fault says nothing. */
class Control {
  readonly #copy: Copy;
  readonly #known = new Map<string, Promise<boolean>>();
  /** A copy runs one file at a time. */
  #latest: Promise<unknown> = Promise.resolve();

  /** @param copy in which nothing is planted */
  constructor(copy: Copy) {
    this.#copy = copy;
  }

  passes(file: string, title: string): Promise<boolean> {
    // A hook cannot be run by its name.
    const only = title.includes('" hook') || title.startsWith('(') ? undefined : title;
    const key = `${file} ${only}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      known = this.#latest.then(() => this.#run(file, only));
      this.#known.set(key, known);
      this.#latest = known;
    }
    return known;
  }

  async #run(file: string, title: string | undefined): Promise<boolean> {
    return (await this.#copy.run(file, minutes, title)) === undefined;
  }
}

async function tryFault(fault: Fault, copy: Copy, control: Control): Promise<Outcome> {
  const undo = copy.plant(fault);
  if (undo === undefined)
    return { result: 'does not fit', why: `${fault.file} does not have it exactly once` };
  try {
    const complaint = await copy.build(fault);
    if (interruption !== undefined) return { result: 'interrupted', why: interruption };
    if (complaint !== undefined) return { result: 'does not build', why: complaint };
    const files = filesFor(fault, testFiles(copy));
    for (const file of files) {
      const failure = await copy.run(file, minutes);
      if (interruption !== undefined) break;
      if (failure === undefined) continue;
      const { title, ended } = failure;
      if (await control.passes(file, title)) return { result: ended ? 'timeout' : 'caught', file, title };
      print(`# ${file} fails without ${fault.name}, too: ${title}`);
    }
    if (interruption !== undefined) return { result: 'interrupted', why: interruption };
    return { result: 'not caught', files: files.length };
  } finally {
    undo();
  }
}

function describe(outcome: Outcome): string {
  switch (outcome.result) {
    case 'caught':
    case 'timeout':
      return `${outcome.result} by ${outcome.file}: ${outcome.title}`;
    case 'not caught':
      return `NOT CAUGHT by ${outcome.files} test files`;
    default:
      return `${outcome.result}: ${outcome.why}`;
  }
}

function table(): string {
  const cell = (content: string): string => content.replaceAll('|', '\\|').replace(/\s+/g, ' ');
  const rows = results.map(({ fault, outcome }) => [areaOf(fault) ?? '', fault.name, describe(outcome)]);
  const lines = [['area', 'fault', 'result'], ['---', '---', '---'], ...rows];
  return lines.map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n');
}

async function work(waiting: Fault[], copy: Copy, control: Control): Promise<void> {
  for (let fault = waiting.shift(); fault && interruption === undefined; fault = waiting.shift()) {
    const start = performance.now();
    const outcome = await tryFault(fault, copy, control);
    const seconds = Math.round((performance.now() - start) / 1000);
    results.push({ fault, outcome, seconds });
    print(`${fault.name}: ${describe(outcome)} (${seconds} s)`);
    if (values.out !== undefined) fs.writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`);
  }
}

async function main(): Promise<number> {
  const waiting = FAULTS.filter(({ name }) => new RegExp(values.only).test(name));
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'qcow2fs-faults-'));
  // Tests that become ordinary users have to get there.
  fs.chmodSync(home, 0o755);
  const copies: Copy[] = [];
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      interruption = signal;
      for (const copy of copies) void copy.clear();
    });
  }
  try {
    for (let job = 0; job <= Number(values.jobs); job++) {
      copies.push(new Copy(path.resolve(values.checkout), path.join(home, `${process.pid}-${job}`), job));
    }
    const [sound, ...others] = copies;
    const complaint = await sound!.build();
    if (complaint !== undefined) throw new Error(`the checkout itself does not build:\n${complaint}`);
    const control = new Control(sound!);
    await Promise.all(others.map((copy) => work(waiting, copy, control)));
  } finally {
    for (const copy of copies) await copy.clear();
    fs.rmSync(home, { recursive: true, force: true });
  }
  if (values.report) print(`\n${table()}`);
  const caught = results.filter(({ outcome }) => ['caught', 'timeout'].includes(outcome.result)).length;
  print(`${caught} of ${results.length} faults caught`);
  return caught === results.length && interruption === undefined ? 0 : 1;
}

process.exitCode = await main();
