/** Runs batches in child processes and watches them: what hangs, dies or takes all memory is a finding too. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { makeScratch } from '../support/scratch.js';
import { Finding } from './finding.js';
import { TARGETS, type Target } from './input.js';
import { buildSeeds, loadSeeds } from './seeds.js';
import { type BatchResult, type Job, Workshop } from './workshop.js';

export interface CampaignOptions {
  readonly randomSeed: number;
  readonly targets: readonly Target[];
  /** For each target. */
  readonly executions: Readonly<Record<Target, number>>;
  /** For all. */
  readonly seconds: number;
  /** Made when there is something to keep. */
  readonly findings: string;
  readonly log: (line: string) => void;
}

export interface CampaignReport {
  readonly executions: Readonly<Record<Target, number>>;
  readonly corpus: Readonly<Record<Target, number>>;
  readonly covered: number;
  readonly known: number;
  /** Blocks that did not run, by file. */
  readonly missing: Readonly<Record<string, number>>;
  /** Paths. */
  readonly findings: readonly string[];
}

/** Seconds of one batch, and its share of all when they are few: a fresh process from time to time. */
const BATCH_SECONDS: Readonly<Record<Target, number>> = { image: 60, command: 60, request: 15 };
const BATCH_SHARE: Readonly<Record<Target, number>> = { image: 0.4, command: 0.3, request: 0.2 };
/** A file system in memory, where there is one. */
const MEMORY = '/dev/shm';
const POLL_MS = 250;
/** Without a new execution. The steps of one are limited by CPU time, far below this. */
const HANG_MS = 60_000;
const MAX_RSS_BYTES = 1536 * 1024 * 1024;
const PAGE_BYTES = 4096;
const STDERR_BYTES = 4096;

export async function runCampaign(options: CampaignOptions): Promise<CampaignReport> {
  // Images are written by the thousand.
  const scratch = makeScratch(fs.existsSync(MEMORY) ? MEMORY : undefined);
  const workshop = new Workshop(scratch.dir, options.findings);
  const executions: Record<Target, number> = { image: 0, command: 0, request: 0 };
  let last: BatchResult = { covered: 0, known: 0, missing: {} };
  try {
    fs.mkdirSync(workshop.seeds);
    buildSeeds(workshop.seeds);
    const end = performance.now() + options.seconds * 1000;
    const isOpen = (target: Target): boolean =>
      executions[target] < options.executions[target] && performance.now() < end;
    for (let batch = 0; options.targets.some(isOpen); batch++) {
      for (const target of options.targets.filter(isOpen)) {
        const job: Job = {
          directory: scratch.dir,
          findings: options.findings,
          target,
          randomSeed: options.randomSeed * 1000 + batch,
          executions: options.executions[target] - executions[target],
          seconds: Math.min(
            BATCH_SECONDS[target],
            BATCH_SHARE[target] * options.seconds,
            (end - performance.now()) / 1000,
          ),
        };
        last = (await runBatch(job, workshop)) ?? last;
        executions[target] += workshop.announced().executions;
        const corpus = workshop.corpus(target).length;
        options.log(
          `${target}: ${executions[target]} executions, corpus ${corpus}, ` +
            `${last.covered} of ${last.known} known blocks, ${listFindings(options.findings).length} findings`,
        );
      }
    }
    const corpus = Object.fromEntries(TARGETS.map((target) => [target, workshop.corpus(target).length]));
    return {
      executions,
      corpus: corpus as Record<Target, number>,
      ...last,
      findings: listFindings(options.findings),
    };
  } finally {
    scratch.dispose();
  }
}

function listFindings(directory: string): string[] {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .map((name) => `${directory}/${name}`);
}

/** @returns undefined when the process did not come to its end, which is kept as a finding */
async function runBatch(job: Job, workshop: Workshop): Promise<BatchResult | undefined> {
  workshop.announce({ executions: 0, input: undefined });
  const program = fileURLToPath(new URL('./batch.js', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', program, JSON.stringify(job)], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  let result: BatchResult | undefined;
  let stderr = '';
  child.on('message', (message) => {
    result = message as BatchResult;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_BYTES);
  });
  const verdict = watch(child, workshop);
  const how = await new Promise<string>((done, failed) => {
    child.on('error', failed);
    child.on('close', (status, signal) => done(signal ?? `exit status ${status}`));
  });
  const killedFor = verdict();
  if (result !== undefined && killedFor === undefined) return result;
  const { input } = workshop.announced();
  const what = killedFor ?? new Finding('crash', 'the process', `${how}: ${stderr.trim()}`);
  // Before the first input and after the last it is the control that fails, or the fuzzer itself.
  if (input === undefined) throw what;
  const seed = loadSeeds(workshop.seeds).find(({ name }) => name === input.seed)!;
  if (!workshop.isKnown(what)) workshop.keepFinding(what, input, seed);
  return undefined;
}

/** @returns what ends the watch, and tells why the child was killed, if it was */
function watch(child: ChildProcess, workshop: Workshop): () => Finding | undefined {
  let verdict: Finding | undefined;
  const timer = setInterval(() => {
    const idle = Date.now() - fs.statSync(workshop.progress).mtimeMs;
    const resident = residentBytes(child.pid!);
    if (idle > HANG_MS) verdict ??= new Finding('hang', 'an input', `no end after ${HANG_MS / 1000} s`);
    if (resident > MAX_RSS_BYTES)
      verdict ??= new Finding('memory', 'an input', `more than ${MAX_RSS_BYTES} bytes`);
    if (verdict !== undefined) child.kill('SIGKILL');
  }, POLL_MS);
  return () => {
    clearInterval(timer);
    return verdict;
  };
}

function residentBytes(pid: number): number {
  try {
    return Number(fs.readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}
