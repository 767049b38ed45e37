/** A copy of a checkout in which faults are planted. The checkout itself is never changed. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { endAll, MARK } from '../support/marked-processes.js';
import type { Fault } from './fault.js';

/** Always this one, so that it knows what it has compiled. A fault may leave something unused. */
const COMPILE = [
  'node_modules/.bin/tsc -p . --incremental --tsBuildInfoFile dist/faults.tsbuildinfo',
  '--noUnusedLocals false --noUnusedParameters false',
].join(' ');
/** All that a fault can change, unless the shells' completions know of it. */
const QUICK_BUILD = `${COMPILE} && contrib/build/bundle`;
const WHOLE_BUILD = `${COMPILE} && npm run --silent build`;
const MOCHA = 'node_modules/mocha/bin/mocha.js';
const POLL_MS = 500;
/** How long a process may take to end when its tests have. */
const PATIENCE_MS = 20_000;
/** With less free space a run is ended: bytes. */
const MIN_FREE = 4 * 2 ** 30;

export interface Failure {
  /** The first test that failed, or how the process ended. */
  readonly title: string;
  /** The file was ended: it took too long, or it was filling the disk. */
  readonly ended: boolean;
}

export class Copy {
  readonly dir: string;
  /** For the temporary files of tests, which would outlive a Mocha that is killed. */
  readonly #scratch: string;
  readonly #mark: string;
  readonly #slot: number;
  /** Everything is there, and all but what a quick build makes is without a fault. */
  #isBuilt = false;

  /**
   * @param from built or not; its tracked files are copied as they are now, and its node_modules is shared
   * @param slot different from that of every other copy that runs tests; see test/support/users.ts
   */
  constructor(from: string, to: string, slot: number) {
    this.#slot = slot;
    this.dir = path.join(to, 'checkout');
    this.#scratch = path.join(to, 'tmp');
    this.#mark = path.basename(to);
    fs.mkdirSync(this.#scratch, { recursive: true });
    fs.chmodSync(this.#scratch, 0o1777);
    for (const file of run('git', ['ls-files', '-z'], from).split('\0')) {
      const [source, target] = [path.join(from, file), path.join(this.dir, file)];
      // With its time: make must not take node_modules for outdated.
      const how = { preserveTimestamps: true, verbatimSymlinks: true };
      if (file !== '' && fs.existsSync(source)) fs.cpSync(source, target, how);
    }
    fs.symlinkSync(fs.realpathSync(path.join(from, 'node_modules')), path.join(this.dir, 'node_modules'));
    // Some tests clone their checkout.
    run('git', ['init', '--quiet'], this.dir);
    run('git', ['add', '--all'], this.dir);
    const identity = ['-c', 'user.name=faults', '-c', 'user.email=faults@localhost'];
    run('git', [...identity, 'commit', '--quiet', '--message', 'A copy'], this.dir);
  }

  /** Names of test files, below dist/test and without `.test.js`. */
  testFiles(): string[] {
    const names = fs.readdirSync(path.join(this.dir, 'dist/test'), { recursive: true, encoding: 'utf8' });
    return names.filter((name) => name.endsWith('.test.js')).map((name) => name.slice(0, -'.test.js'.length));
  }

  /** @returns puts the source back; undefined where the fault does not fit the source */
  plant({ file, find, replace }: Fault): (() => void) | undefined {
    const place = path.join(this.dir, file);
    const text = fs.existsSync(place) ? fs.readFileSync(place, 'utf8') : '';
    if (text.split(find).length !== 2) return undefined;
    fs.writeFileSync(
      place,
      text.replace(find, () => replace),
    );
    return () => fs.writeFileSync(place, text);
  }

  /**
   * Builds no more than it must.
   * @param fault that is planted
   * @returns what the compiler says when it fails
   */
  async build(fault?: Fault): Promise<string | undefined> {
    const changesMore = fault !== undefined && /^src\/(cli|completion)\//.test(fault.file);
    const command = this.#isBuilt && !changesMore ? QUICK_BUILD : WHOLE_BUILD;
    this.#isBuilt = !changesMore;
    const child = this.#spawn('sh', ['-c', command], ['ignore', 'pipe', 'pipe']);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (bytes) => (output += bytes));
    return (await exitOf(child)) === 0 ? undefined : output.trim();
  }

  /**
   * Runs one test file, or one test of it, up to its first failure. Whatever it started has ended afterwards.
   * @param minutes that it may take
   */
  async run(file: string, minutes: number, title?: string): Promise<Failure | undefined> {
    const report = path.join(path.dirname(this.dir), 'report.json');
    fs.rmSync(report, { force: true });
    const only = title === undefined ? [] : ['--fgrep', title];
    const output = ['--reporter', 'json', '--reporter-option', `output=${report}`];
    const args = [MOCHA, '--bail', ...output, ...only, `dist/test/${file}.test.js`];
    const exit = exitOf(this.#spawn(process.execPath, args, 'ignore'));
    const ended = await this.#watch(exit, report, minutes);
    await this.clear();
    const titles = failuresIn(report);
    if (titles?.[0] !== undefined) return { title: titles[0], ended: false };
    if (ended !== undefined) return { title: ended, ended: true };
    const status = await exit;
    if (status === 0 && titles !== undefined) return undefined;
    return { title: `(its process ended with ${status})`, ended: false };
  }

  /** Ends all processes, and removes what they left. */
  async clear(): Promise<void> {
    await endAll(this.#mark);
    const mounted = fs.readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/^(?:\S+ ){4}(\S+)/gm);
    const places = [...mounted].map(([, place]) => place!).filter((place) => place.startsWith(this.#scratch));
    for (const place of places.reverse()) spawnSync('umount', ['--lazy', place]);
    const loops = spawnSync('losetup', ['--noheadings', '--output', 'NAME,BACK-FILE'], { encoding: 'utf8' });
    for (const line of loops.stdout?.split('\n') ?? []) {
      if (line.includes(this.#scratch)) spawnSync('losetup', ['--detach', line.split(' ')[0]!]);
    }
    for (const name of fs.readdirSync(this.#scratch)) {
      fs.rmSync(path.join(this.#scratch, name), { recursive: true, force: true, maxRetries: 5 });
    }
  }

  /** @returns why the process was ended; undefined when it ended by itself */
  async #watch(exit: Promise<unknown>, report: string, minutes: number): Promise<string | undefined> {
    const isOver = exit.then(() => true);
    const deadline = performance.now() + minutes * 60_000;
    let reported: number | undefined;
    while (!(await Promise.race([isOver, delay(POLL_MS, false)]))) {
      const now = performance.now();
      const { bavail, bsize } = fs.statfsSync(this.#scratch);
      if (bavail * bsize < MIN_FREE) return '(it was filling the disk)';
      if (now > deadline) return `(it took longer than ${minutes} minutes)`;
      if (fs.existsSync(report)) reported ??= now;
      if (reported !== undefined && now > reported + PATIENCE_MS) return '(its process did not end)';
    }
    return undefined;
  }

  #spawn(command: string, args: readonly string[], stdio: 'ignore' | ('ignore' | 'pipe')[]): ChildProcess {
    const own = { [MARK]: this.#mark, QCOW2FS_SLOT: String(this.#slot), TMPDIR: this.#scratch };
    const env = { ...process.env, ...own };
    return spawn(command, args, { cwd: this.dir, env, stdio });
  }
}

function exitOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? signal ?? 'no status'));
  });
}

/** Undefined where Mocha did not come to its end. */
function failuresIn(report: string): string[] | undefined {
  try {
    const { failures } = JSON.parse(fs.readFileSync(report, 'utf8')) as { failures: { fullTitle: string }[] };
    return failures.map(({ fullTitle }) => fullTitle);
  } catch {
    return undefined;
  }
}

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args[0]}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}
