/**
 * The program in the process of the test: what starts Node for each command spends most of its time there. It gets
 * output, a working directory and an environment of its own, and what the end of a process does for it is done here:
 * threads end, and files that it left open are closed with their locks.
 *
 * Pipes, terminals, signals, users, and the way into the background are for `qcow2fs` of qcow2fs.ts.
 */
import fs from 'node:fs';
import { Writable } from 'node:stream';
import type { Worker } from 'node:worker_threads';
import { run } from '../../src/cli/program.js';
import { foreign } from '../../src/host/libc.js';
import { onNotice } from '../../src/notice.js';
import { mountsAt } from './processes.js';
import type { Outcome, RunAs } from './qcow2fs.js';
import { scratchDirs } from './scratch.js';

type Options = Pick<RunAs, 'cwd' | 'env'>;
type Undo = () => void;

/** Where a launcher would look for Node: no test may start a daemon with the command line of its own process. */
const NO_NODE = '/no daemon is started by a command in the process of a test';
const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;
const WATCH_INTERVAL_MS = 50;

let previous: Promise<unknown> = Promise.resolve();

/** Runs `qcow2fs ARGS`, whatever its outcome. Commands that are called at the same time run one after the other. */
export function runInProcess(args: readonly string[], options: Options = {}): Promise<Outcome> {
  const outcome = previous.then(() => runAlone(args, options));
  previous = outcome.catch(() => {});
  return outcome;
}

/** As `runInProcess`, but any failure is an error with what it printed. */
export async function expectInProcess(args: readonly string[], options: Options = {}): Promise<string> {
  const { status, stdout, stderr } = await runInProcess(args, options);
  if (status !== 0) throw new Error(`qcow2fs ${args.join(' ')}: status ${status}: ${stderr.trim()}`);
  return stdout;
}

async function runAlone(args: readonly string[], { cwd, env }: Options): Promise<Outcome> {
  const undo: Undo[] = [];
  const stdout = new Sink();
  const stderr = new Sink();
  const exit = new Exit();
  const threads = new Threads();
  const unwanted = new UnwantedMount(args);
  try {
    undo.push(keepDescriptors(), keepDumpable(), keepListeners(), keepDirectory(), keepEnvironment());
    undo.push(() => onNotice(() => {}));
    undo.push(replaced(process, 'execPath', NO_NODE), exit.take(), unwanted.watch());
    undo.push(replaced(process, 'stdout', stdout), replaced(process, 'stderr', stderr));
    undo.push(replaced(fs, 'writeSync', writerTo(stdout, stderr)));
    if (cwd !== undefined) process.chdir(cwd);
    if (env !== undefined) setEnvironment(env);
    const listening = threads.listen();
    const status = await Promise.race([exit.status, run(args)]).finally(listening);
    unwanted.refuse();
    return { status, stdout: stdout.text, stderr: stderr.text };
  } finally {
    await threads.end();
    while (undo.length > 0) undo.pop()!();
  }
}

/** Standard output or standard error; no terminal. */
class Sink extends Writable {
  readonly #parts: Buffer[] = [];

  override _write(part: Buffer, _encoding: string, done: () => void): void {
    this.#parts.push(Buffer.from(part));
    done();
  }

  get text(): string {
    return Buffer.concat(this.#parts).toString();
  }
}

/** Stands for `fs.writeSync`, by which threads and logs write. */
function writerTo(stdout: Sink, stderr: Sink): typeof fs.writeSync {
  const write = fs.writeSync as (fd: number, data: string | NodeJS.ArrayBufferView) => number;
  const take = (fd: number, data: string | Uint8Array, ...rest: []): number => {
    if (fd !== 1 && fd !== 2) return write(fd, data, ...rest);
    (fd === 1 ? stdout : stderr).write(data);
    return Buffer.byteLength(data);
  };
  return take as typeof fs.writeSync;
}

/** `process.exit` as an outcome. */
class Exit {
  readonly status: Promise<number>;
  #resolve: (status: number) => void = () => {};

  constructor() {
    this.status = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  take(): Undo {
    return replaced(process, 'exit', (status?: number | string | null) => {
      this.#resolve(Number(status ?? 0));
      throw new Error(`process.exit(${status})`);
    });
  }
}

/** The end of a process is that of its threads. */
class Threads {
  readonly #started: Worker[] = [];

  listen(): Undo {
    const note = (worker: Worker): void => void this.#started.push(worker);
    process.on('worker', note);
    return () => void process.off('worker', note);
  }

  async end(): Promise<void> {
    await Promise.all(this.#started.map((worker) => worker.terminate()));
  }
}

/** A mount in the foreground that should have been refused would serve until somebody unmounts it. */
class UnwantedMount {
  readonly #args: readonly string[];
  #found: string | undefined;

  constructor(args: readonly string[]) {
    this.#args = args;
  }

  watch(): Undo {
    const before = new Set(scratchMounts());
    const timer = setInterval(() => {
      this.#found ??= scratchMounts().find((mountpoint) => !before.has(mountpoint));
      if (this.#found !== undefined) process.emit('SIGTERM', 'SIGTERM');
    }, WATCH_INTERVAL_MS);
    return () => clearInterval(timer);
  }

  refuse(): void {
    if (this.#found !== undefined) throw new Error(`qcow2fs ${this.#args.join(' ')}: it mounted`);
  }
}

function scratchMounts(): string[] {
  return scratchDirs.flatMap(mountsAt);
}

/** Puts something else in the place of a property. */
function replaced(owner: object, name: string, value: unknown): Undo {
  const descriptor = Object.getOwnPropertyDescriptor(owner, name)!;
  Object.defineProperty(owner, name, { configurable: true, enumerable: true, writable: true, value });
  return () => void Object.defineProperty(owner, name, descriptor);
}

/** Whoever has removed the working directory has to find another one. */
function keepDirectory(): Undo {
  let directory: string;
  try {
    directory = process.cwd();
  } catch {
    return () => {};
  }
  return () => process.chdir(directory);
}

function keepEnvironment(): Undo {
  const before = { ...process.env };
  return () => setEnvironment(before);
}

function setEnvironment(env: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
}

/** Removes the listeners that were added since. */
function keepListeners(): Undo {
  const before = new Map(process.eventNames().map((name) => [name, process.listeners(name as 'exit')]));
  return () => {
    for (const name of process.eventNames()) {
      for (const listener of process.listeners(name as 'exit')) {
        if (!before.get(name)?.includes(listener)) process.off(name, listener);
      }
    }
  };
}

/** A command with keys keeps others from looking into its process: here this would be the test. */
function keepDumpable(): Undo {
  const call = foreign(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  );
  const before = call(PR_GET_DUMPABLE, 0, 0, 0, 0);
  return () => void call(PR_SET_DUMPABLE, before, 0, 0, 0);
}

/** Closes the files and directories that are open then and were not before, and so gives back their locks. */
function keepDescriptors(): Undo {
  const before = openFiles();
  return () => {
    for (const fd of openFiles()) if (!before.includes(fd)) fs.closeSync(fd);
  };
}

/** Other descriptors belong to Node.js; and that by which the list is read is closed by now. */
function openFiles(): number[] {
  const listed = fs.readdirSync('/proc/self/fd').map(Number);
  return listed.filter((fd) => {
    try {
      const stat = fs.fstatSync(fd);
      return stat.isFile() || stat.isDirectory() || stat.isBlockDevice();
    } catch {
      return false;
    }
  });
}
