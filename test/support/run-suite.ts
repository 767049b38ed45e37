/**
 * Runs the test files, each in a Mocha of its own and as many at a time as there are processors; what `make test` calls.
 * Arguments: patterns of test files, and options for Mocha (--grep=WORDS). QCOW2FS_JOBS=1 runs one file at a time;
 * QCOW2FS_SILENCE is after how many minutes without a finished test a process is taken to hang.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { endAll, MARK } from './marked-processes.js';
import { ROOT } from './qcow2fs.js';
import { closing, type Ending, matching, Queue, type Result, resultOf } from './suite-plan.js';

/** With more, all would wait for those that go in turn. */
const MAX_JOBS = 4;
const JOBS = Number(process.env['QCOW2FS_JOBS'] ?? Math.min(os.availableParallelism(), MAX_JOBS));
const SILENCE_MINUTES = Number(process.env['QCOW2FS_SILENCE'] ?? 20);
/** A log that says nothing for longer is taken for a hang, by people and by CI. */
const NOTICE_MS = 5 * 60_000;
const POLL_MS = 1000;
const MOCHA = path.join(ROOT, 'node_modules/mocha/bin/mocha.js');

const NO_FILES = { output: '', status: null, signal: null, ended: 'no test file has such a name' };

interface Running {
  readonly file: string;
  readonly mark: string;
  readonly since: number;
}

const running = new Set<Running>();
const logs = fs.mkdtempSync(path.join(os.tmpdir(), 'qcow2fs-suite-'));
let count = 0;
let interruption: string | undefined;

type Exit = Pick<Ending, 'status' | 'signal'>;

function start(file: string, options: readonly string[], mark: string, log: string): Promise<Exit> {
  // A file, not a pipe: both streams stay in order, and what is left in the background cannot keep it open.
  const fd = fs.openSync(log, 'a');
  const child = spawn(process.execPath, [MOCHA, ...options, file], {
    cwd: ROOT,
    env: { ...process.env, [MARK]: mark },
    stdio: ['ignore', fd, fd],
  });
  fs.closeSync(fd);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status, signal) => resolve({ status, signal }));
  });
}

async function runFile(file: string, options: readonly string[]): Promise<Result> {
  const mark = `${process.pid}.${count++}`;
  const log = path.join(logs, mark);
  const entry = { file, mark, since: performance.now() };
  running.add(entry);
  const exit = start(file, options, mark, log);
  const hang = await watch(log, exit);
  if (hang !== undefined) await endAll(mark);
  const { status, signal } = await exit;
  if (status !== 0) await endAll(mark);
  running.delete(entry);
  const ended = hang ?? interruption;
  const output = fs.readFileSync(log, 'utf8');
  const result = resultOf(file, { output, status, signal, ...(ended === undefined ? {} : { ended }) });
  process.stdout.write(`\n${file}, ${secondsSince(entry)} s\n${result.output}\n`);
  return result;
}

/** @returns undefined when the process has ended by itself, or why it must be ended */
async function watch(log: string, exit: Promise<Exit>): Promise<string | undefined> {
  const isOver = exit.then(() => true);
  let size = 0;
  let since = performance.now();
  while (!(await Promise.race([isOver, delay(POLL_MS, false, { ref: false })]))) {
    const now = fs.statSync(log).size;
    if (now !== size) [size, since] = [now, performance.now()];
    if (performance.now() - since > SILENCE_MINUTES * 60_000) {
      return `no test was finished for ${SILENCE_MINUTES} minutes, and its processes were ended`;
    }
  }
  return undefined;
}

function secondsSince({ since }: Running): number {
  return Math.round((performance.now() - since) / 1000);
}

const words = process.argv.slice(2);
const options = words.filter((word) => word.startsWith('-'));
const patterns = words.filter((word) => !word.startsWith('-')).map((word) => path.join(word));
const files = fs
  .readdirSync(path.join(ROOT, 'dist/test'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.js'))
  .map((name) => `dist/test/${name}`);
const chosen = matching(files, patterns);
const queue = new Queue(chosen);
const results: Result[] = [];
if (chosen.length === 0) results.push(resultOf(patterns.join(' '), NO_FILES));

async function work(): Promise<void> {
  for (let file = queue.take(); file !== undefined; file = queue.take()) {
    results.push(await runFile(file, process.stdout.isTTY ? ['--color', ...options] : options));
    queue.done(file);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    interruption = `interrupted by ${signal}`;
    queue.clear();
    for (const { mark } of running) void endAll(mark);
  });
}
const notice = setInterval(() => {
  const now = [...running].map((entry) => `${entry.file} (${Math.round(secondsSince(entry) / 60)} min)`);
  process.stdout.write(`\nrunning: ${now.join(', ')}\n`);
}, NOTICE_MS);
await Promise.all(Array.from({ length: Math.max(1, JOBS || 1) }, work));
clearInterval(notice);
fs.rmSync(logs, { recursive: true });
const { text, hasFailed } = closing(results);
process.stdout.write(text);
process.exitCode = hasFailed || interruption !== undefined ? 1 : 0;
