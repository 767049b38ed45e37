/** Children, and the list of what must be undone whatever happens. */

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

type Undo = () => Promise<void> | void;
const undos = new Set<Undo>();

/** Registers `undo` to run at the end; the function returned runs it now instead. It runs once. */
export function atExit(undo: Undo): () => Promise<void> {
  undos.add(undo);
  return async () => {
    if (undos.delete(undo)) await undo();
  };
}

/** Undoes everything registered, the newest first; one failure does not keep the others from running. */
export async function undoAll(): Promise<void> {
  for (const undo of [...undos].reverse()) {
    undos.delete(undo);
    try {
      await undo();
    } catch (error) {
      console.error(`bench: clean-up: ${(error as Error).message}`);
    }
  }
}

export interface Child {
  readonly process: ChildProcess;
  /** What it has written to stderr so far. */
  readonly stderr: () => string;
}

/** Starts a child in a process group of its own, so that ^C reaches only the benchmark, which then ends it in order. */
export function start(command: string, args: readonly string[], options: SpawnOptions = {}): Child {
  const process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options });
  let stderr = '';
  process.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  process.on('error', (error) => {
    stderr += error.message;
  });
  return { process, stderr: () => stderr.trim() };
}

const running = new Set<ChildProcess>();
let interrupted = false;

/** Ends what is being waited for. The code that waits then fails, and cleans up on its way out. */
export function interrupt(): void {
  interrupted = true;
  for (const child of running) kill(child);
}

export function isInterrupted(): boolean {
  return interrupted;
}

interface RunOptions {
  readonly timeoutMs?: number;
  /** Part of the cleaning up, so that an interruption does not end it. */
  readonly undoing?: boolean;
}

/** Runs a command to its end and returns its stdout. A daemon it leaves in the background is not waited for. */
export async function run(
  command: string,
  args: readonly string[],
  { timeoutMs = 300_000, undoing = false }: RunOptions = {},
): Promise<string> {
  const { process: child, stderr } = start(command, args);
  if (!undoing) running.add(child);
  let stdout = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  const timer = setTimeout(() => kill(child), timeoutMs);
  // A daemon may keep our pipes open after its parent's exit: "close" would wait for it, so it gets a moment only.
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
  const closed = new Promise((resolve) => child.once('close', resolve));
  const [code, signal] = await ended.catch(() => [null, 'not started'] as const);
  await Promise.race([closed, sleep(50)]);
  clearTimeout(timer);
  running.delete(child);
  child.stdout?.destroy();
  child.stderr?.destroy();
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${code ?? signal}: ${stderr()}`);
  return stdout;
}

function kill(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
}

/** Waits until `condition` holds; false after `timeoutMs`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) return false;
    await sleep(1);
  }
  return true;
}
