/**
 * Runs test files in Mocha processes of their own, several at a time; what `make test` calls. Mocha's own parallel mode
 * ends without a result when a process crashes, and waits for one that hangs.
 *
 * Arguments: patterns of test files, and options for Mocha (--grep=WORDS). QCOW2FS_JOBS is how many processes run at a
 * time; QCOW2FS_SILENCE after how many minutes without a finished test a process is taken to hang.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lane } from './lane.js';
import { endAll, MARK, stacksOf } from './marked-processes.js';
import { ROOT } from './qcow2fs.js';
import type { TestEvent } from './reporter.js';
import { type Batch, batchesOf, closing, matching, type Result, resultOf } from './suite-plan.js';

/** Tests wait for other processes and for disks much of the time. */
const JOBS = Number(process.env['QCOW2FS_JOBS'] ?? Math.min(2 * os.availableParallelism(), 8));
const SILENCE_MINUTES = Number(process.env['QCOW2FS_SILENCE'] ?? lane(5, 20));
const POLL_MS = 1000;
/** `bin/mocha.js` starts this in a second process, for the sake of options like this one. */
const MOCHA = ['--enable-source-maps', path.join(ROOT, 'node_modules/mocha/lib/cli/cli.js')];
const FUSE = '/dev/fuse';

const running = new Set<string>();
const results: Result[] = [];
let count = 0;
let interruption: string | undefined;

/** @param slot different from that of all others that run */
async function runBatch(batch: Batch, options: readonly string[], slot: number): Promise<Result> {
  const mark = `${process.pid}.${count++}`;
  const log = path.join(logs, mark);
  const events = `${log}.events`;
  fs.writeFileSync(events, '');
  const since = performance.now();
  running.add(mark);
  // A file, not a pipe: both streams stay in order, and what is left in the background cannot keep it open.
  const fd = fs.openSync(log, 'a');
  const child = spawn(process.execPath, [...MOCHA, ...options, ...batch], {
    cwd: ROOT,
    env: { ...process.env, [MARK]: mark, QCOW2FS_SLOT: String(slot), QCOW2FS_EVENTS: events },
    stdio: ['ignore', fd, fd],
  });
  fs.closeSync(fd);
  const exit = new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (status, signal) => {
      resolve(status === 0 ? undefined : `its process ended with ${signal ?? `status ${status}`}`);
    });
  });
  const hang = await watch(events, exit, mark, log);
  if (hang !== undefined) await endAll(mark);
  const ending = await exit;
  if (ending !== undefined) await endAll(mark);
  running.delete(mark);
  const seconds = Math.round((performance.now() - since) / 1000);
  const name = batch.length === 1 ? batch[0] : `${path.dirname(batch[0]!)}/`;
  process.stdout.write(`\n${name}, ${seconds} s\n${fs.readFileSync(log, 'utf8').trimEnd()}\n`);
  return resultOf(batch, eventsIn(events), interruption ?? hang ?? ending);
}

/** @returns undefined when the process has ended by itself, or why it must be ended */
async function watch(
  events: string,
  exit: Promise<unknown>,
  mark: string,
  log: string,
): Promise<string | undefined> {
  const isOver = exit.then(() => true);
  let size = 0;
  let since = performance.now();
  while (!(await Promise.race([isOver, delay(POLL_MS, false, { ref: false })]))) {
    const now = fs.statSync(events).size;
    if (now !== size) [size, since] = [now, performance.now()];
    if (performance.now() - since > SILENCE_MINUTES * 60_000) {
      fs.appendFileSync(log, `\n${stacksOf(mark)}\n`);
      return `no test ended for ${SILENCE_MINUTES} minutes; the stacks of its processes are above`;
    }
  }
  return undefined;
}

function eventsIn(file: string): TestEvent[] {
  const lines = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as TestEvent);
}

async function work(slot: number): Promise<void> {
  for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
    results.push(await runBatch(batch, options, slot));
  }
}

/** Ordinary users need it, and this is the one place that puts it back. */
function openFuseToAll(): () => void {
  if (process.getuid?.() !== 0 || !fs.existsSync(FUSE)) return () => {};
  const mode = fs.statSync(FUSE).mode & 0o7777;
  fs.chmodSync(FUSE, 0o666);
  return () => fs.chmodSync(FUSE, mode);
}

const words = process.argv.slice(2);
const options = words.filter((word) => word.startsWith('-'));
const patterns = words.filter((word) => !word.startsWith('-')).map((word) => path.join(word));
// From the sources: what was compiled from a file that has gone may still be in dist.
const files = fs
  .readdirSync(path.join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `dist/test/${name.slice(0, -'.ts'.length)}.js`);
const batches = batchesOf(matching(files, patterns));
const logs = fs.mkdtempSync(path.join(os.tmpdir(), 'qcow2fs-suite-'));
if (batches.length === 0) results.push(resultOf(patterns, [], 'no test file has such a name'));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    interruption = `interrupted by ${signal}`;
    batches.length = 0;
    for (const mark of running) void endAll(mark);
  });
}
const closeFuse = openFuseToAll();
await Promise.all(Array.from({ length: Math.max(1, JOBS || 1) }, (_, slot) => work(slot)));
closeFuse();
fs.rmSync(logs, { recursive: true });
process.stdout.write(closing(results));
process.exitCode = results.some(({ failures }) => failures.length > 0) ? 1 : 0;
