/**
 * A fresh Debian in a directory, to install packages into and to mount in. Everything that is mounted or started there
 * is so in namespaces of its own: it ends with the process that holds them, whatever happens to the test, and nothing
 * of it is ever mounted below the directory as others see it. So the directory can be removed at any time.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { LET_GO } from '../support/mount-namespace.js';
import { mountsAt } from '../support/mounts.js';
import type { Outcome } from '../support/qcow2fs.js';
import { run } from '../support/run.js';

/** The release that has a Node.js new enough. */
const SUITE = 'trixie';
const DEFAULT_MIRROR = 'http://deb.debian.org/debian';
const SOURCES = ['/etc/apt/sources.list', '/etc/apt/sources.list.d/debian.sources'];
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const MINUTES = 60_000;

/** proc shows the processes of the namespace; the rest of what programs look for is in the directory itself. */
const HOLD = `
set -e
${LET_GO}
mount -t proc proc "$1/proc"
mount -t devpts devpts "$1/dev/pts"
echo ready
exec cat`;

export class CleanRoot {
  readonly dir: string;
  #holder: ChildProcess | undefined;

  /** @param dir an empty directory; it has a system when the promise of `start` is kept */
  constructor(dir: string) {
    this.dir = dir;
  }

  /** Takes about ten seconds (debootstrap: thirty). Keeps the package lists, so that packages can be installed. */
  async start(): Promise<void> {
    // A namespace, because it mounts proc into the directory and may be interrupted.
    const options = ['--mode=root', '--variant=minbase', '--skip=cleanup/apt/lists', '--quiet'];
    const make = ['mmdebstrap', ...options, SUITE, this.dir, mirror()];
    const script = ['sh', '-c', `${LET_GO}; exec "$@"`, 'sh', ...make];
    run('unshare', ['--mount', '--propagation=private', ...script], {
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, LC_ALL: 'C' },
    });
    run('mknod', ['--mode=666', this.path('/dev/fuse'), 'c', '10', '229']);
    const own = ['--mount', '--propagation=private', '--pid', '--fork', '--kill-child'];
    const holder = spawn('unshare', [...own, 'sh', '-c', HOLD, 'hold', this.dir], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#holder = holder;
    const ready = await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')]);
    if (String(ready[0]) !== 'ready\n') throw new Error(`cannot set up ${this.dir}: ${ready}`);
  }

  /** Where a file of the clean root lies. */
  path(name: string): string {
    return path.join(this.dir, name);
  }

  /** Runs a program in the clean root, whatever its outcome. */
  try(command: string, ...args: string[]): Outcome {
    const namespaces = `/proc/${this.#holder!.pid}/ns`;
    const enter = [`--mount=${namespaces}/mnt`, `--pid=${namespaces}/pid_for_children`];
    const env = { PATH, HOME: '/root', LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' };
    const line = [...enter, '/usr/sbin/chroot', this.dir, command, ...args];
    const { error, status, stdout, stderr } = spawnSync('nsenter', line, {
      encoding: 'utf8',
      env,
      timeout: 10 * MINUTES,
    });
    if (error) throw error;
    return { status, stdout, stderr };
  }

  /** As `try`, but any failure is an error with what was printed. */
  run(command: string, ...args: string[]): string {
    const { status, stdout, stderr } = this.try(command, ...args);
    if (status === 0) return stdout;
    throw new Error(`${command} ${args.join(' ')}: status ${status}: ${stderr.trim()}\n${stdout.trim()}`);
  }

  /** Ends every process of the clean root, which takes its mounts along. */
  async stop(): Promise<void> {
    const holder = this.#holder;
    if (holder !== undefined && holder.exitCode === null && holder.signalCode === null) {
      holder.kill('SIGKILL');
      await once(holder, 'exit');
    }
    this.#holder = undefined;
    const left = mountsAt(this.dir);
    if (left.length > 0) throw new Error(`still mounted: ${left.join(' ')}`);
  }
}

/** The mirror that this machine uses, if it is one of Debian. */
function mirror(): string {
  const text = SOURCES.filter((file) => fs.existsSync(file)).map((file) => fs.readFileSync(file, 'utf8'));
  return /^(?:deb|URIs:) .*?(https?:\/\/\S+\/debian)\/?(?=\s)/m.exec(text.join('\n'))?.[1] ?? DEFAULT_MIRROR;
}
