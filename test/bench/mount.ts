/** One mount of one candidate: started, timed to its first byte, watched, and taken down whatever happens. */

import { mkdir, open, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Candidate } from './candidates.js';
import type { Image } from './images.js';
import { cpuSeconds, holders, isAlive, peakRss } from './proc.js';
import { atExit, type Child, isInterrupted, run, start, until } from './process.js';

const READY_MS = 20_000;
const GONE_MS = 10_000;
const UNDOING = { timeoutMs: GONE_MS, undoing: true } as const;

export interface Mount {
  /** The raw disk. */
  readonly disk: string;
  /** From starting the command to having read the disk's first 4 KiB. */
  readonly firstByteMs: number;
  /** The most memory the daemon's processes have held, together, so far. */
  readonly peakRss: () => number;
  /** The CPU time the daemon's processes have used, together, so far. */
  readonly cpuSeconds: () => number;
  readonly unmount: () => Promise<void>;
}

/** Mounts `image` in the new directory `dir`. */
export async function mount(
  candidate: Candidate,
  { path: image, secret, size }: Image,
  dir: string,
  readOnly: boolean,
): Promise<Mount> {
  await mkdir(dir);
  const disk = join(dir, candidate.disk);
  const mountpoint = candidate.mountsOnFile ? disk : dir;
  if (candidate.mountsOnFile) await writeFile(disk, '');

  let child: Child | undefined;
  const before = holders(image);
  const findDaemons = () => {
    const started = child?.process.pid === undefined ? [] : [child.process.pid];
    const opened = [...holders(image)].filter((pid) => !before.has(pid));
    return [...new Set([...started, ...opened])];
  };
  // Known once the disk is there; later the next candidate's daemon holds the same image.
  let daemons: readonly number[] | undefined;
  const unmount = atExit(() => takeDown(candidate, mountpoint, dir, daemons ?? findDaemons()));

  const [command, ...args] = candidate.mount({ image, secret, dir, readOnly }) as [string, ...string[]];
  const started = performance.now();
  if (candidate.stays) child = start(command, args);
  else
    await run(command, args, { timeoutMs: READY_MS }).catch((error) =>
      unmount().then(() => Promise.reject(error)),
    );
  const ended = () => child !== undefined && (child.process.exitCode ?? child.process.signalCode) !== null;
  await until(async () => ended() || isInterrupted() || (await firstBytes(disk, size)), READY_MS);
  const firstByteMs = performance.now() - started;

  if (!(await firstBytes(disk, size))) {
    await unmount();
    throw new Error(`${candidate.name} does not present ${image}: ${child?.stderr() || 'no disk appeared'}`);
  }
  const pids = findDaemons();
  daemons = pids;
  const sum = (of: (pid: number) => number) => pids.reduce((total, pid) => total + of(pid), 0);
  return { disk, firstByteMs, peakRss: () => sum(peakRss), cpuSeconds: () => sum(cpuSeconds), unmount };
}

/** Asynchronous, so that a daemon which hangs does not hang the benchmark with it. */
async function firstBytes(disk: string, size: number): Promise<boolean> {
  try {
    const file = await open(disk, 'r');
    try {
      if ((await file.stat()).size !== size) return false;
      return (await file.read(Buffer.alloc(4096), 0, 4096, 0)).bytesRead === 4096;
    } finally {
      await file.close();
    }
  } catch {
    return false;
  }
}

async function takeDown(candidate: Candidate, mountpoint: string, dir: string, pids: readonly number[]) {
  if (candidate.unmount && (await isMounted(mountpoint))) {
    const [command, ...args] = candidate.unmount(mountpoint) as [string, ...string[]];
    await run(command, args, UNDOING).catch((error: Error) => console.error(`bench: ${error.message}`));
  } else {
    for (const pid of pids) signal(pid, 'SIGTERM');
  }
  if (!(await until(() => !pids.some(isAlive), GONE_MS))) {
    console.error(`bench: ${candidate.name} did not end, it is killed`);
    for (const pid of pids) signal(pid, 'SIGKILL');
  }
  if (await isMounted(mountpoint)) {
    const lazy = process.getuid?.() === 0 ? ['umount', '-l'] : ['fusermount3', '-u', '-z'];
    await run(lazy[0] as string, [...lazy.slice(1), mountpoint], UNDOING);
  }
  // Never a recursive removal of what might still be a mount.
  if (candidate.mountsOnFile) await rm(mountpoint);
  await rmdir(dir);
}

function signal(pid: number, name: NodeJS.Signals): void {
  if (isAlive(pid)) process.kill(pid, name);
}

async function isMounted(mountpoint: string): Promise<boolean> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return mounts.split('\n').some((line) => line.split(' ')[1] === mountpoint);
}
