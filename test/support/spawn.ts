/**
 * Runs a program to its end by posix_spawn(3). Node's spawnSync calls fork(2), which copies the page tables of this
 * process: 10 ms of processor where a test file has grown to 400 MB, and here 0.1 ms. Tests run the reference tools some
 * ten thousand times.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';

interface Library {
  // biome-ignore lint/suspicious/noExplicitAny: C functions, whose arguments koffi checks
  func(prototype: string): (...args: any[]) => number;
}

const libc = (createRequire(import.meta.url)('koffi') as { load(path: null): Library }).load(null);
const actions = Buffer.alloc(128);
const attributes = Buffer.alloc(512);
const posixSpawn = libc.func(
  'int posix_spawnp(_Out_ int *pid, const char *file, void *actions, void *attributes, const char **argv, const char **envp)',
);
const waitForChild = libc.func('int waitpid(int pid, _Out_ int *status, int options)');
const initActions = libc.func('int posix_spawn_file_actions_init(void *actions)');
const destroyActions = libc.func('int posix_spawn_file_actions_destroy(void *actions)');
const addDuplicate = libc.func('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)');
const addChdir = libc.func('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
const initAttributes = libc.func('int posix_spawnattr_init(void *attributes)');
const setFlags = libc.func('int posix_spawnattr_setflags(void *attributes, short flags)');
const setDefaults = libc.func('int posix_spawnattr_setsigdefault(void *attributes, void *signals)');

/** Node ignores SIGPIPE, and a program inherits what is ignored. */
const POSIX_SPAWN_SETSIGDEF = 4;
initAttributes(attributes);
setFlags(attributes, POSIX_SPAWN_SETSIGDEF);
setDefaults(attributes, Buffer.alloc(128, 0xff));

/** Without a name; what is written goes to its end, wherever an earlier program stopped. */
const O_TMPFILE = 0o20200000;
const openUnnamed = (): number =>
  fs.openSync(os.tmpdir(), O_TMPFILE | fs.constants.O_RDWR | fs.constants.O_APPEND, 0o600);
const [input, output, errors] = [openUnnamed(), openUnnamed(), openUnnamed()];

/** Some have two names; the usual one comes first. */
const SIGNALS = new Map(
  Object.entries(os.constants.signals)
    .reverse()
    .map(([name, number]) => [number, name]),
);

export interface SpawnOptions {
  readonly cwd?: string | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly input?: string | Uint8Array | undefined;
}

export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws Error when the program cannot be started */
export function spawnProgram(command: string, args: readonly string[], options: SpawnOptions = {}): Ending {
  for (const fd of [input, output, errors]) fs.ftruncateSync(fd, 0);
  if (options.input !== undefined) fs.writeFileSync(input, options.input);
  // From its start: the descriptor that wrote it is at its end.
  const source = fs.openSync(options.input === undefined ? os.devNull : `/proc/self/fd/${input}`, 'r');
  const pid = [0];
  const status = [0];
  try {
    initActions(actions);
    for (const [to, fd] of [source, output, errors].entries()) addDuplicate(actions, fd, to);
    if (options.cwd !== undefined) addChdir(actions, options.cwd);
    const env = Object.entries(options.env ?? process.env).filter(([, value]) => value !== undefined);
    const words = [...env.map(([name, value]) => `${name}=${value}`), null];
    const error = posixSpawn(pid, command, actions, attributes, [command, ...args, null], words);
    if (error !== 0)
      throw new Error(`spawn ${command}: ${os.constants.errno.ENOENT === error ? 'ENOENT' : error}`);
    waitForChild(pid[0], status, 0);
  } finally {
    destroyActions(actions);
    fs.closeSync(source);
  }
  const signal = status[0]! & 0x7f;
  return {
    status: signal === 0 ? (status[0]! >> 8) & 0xff : null,
    signal: signal === 0 ? null : (SIGNALS.get(signal) as NodeJS.Signals),
    stdout: textOf(output),
    stderr: textOf(errors),
  };
}

function textOf(fd: number): string {
  const bytes = Buffer.allocUnsafe(fs.fstatSync(fd).size);
  return bytes.toString('utf8', 0, fs.readSync(fd, bytes, 0, bytes.length, 0));
}
