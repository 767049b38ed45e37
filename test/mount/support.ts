/** What the tests of real mounts need besides test/support: any mountpoint, daemons as processes, loop devices, users. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { checkImage, type Image, keyArgs, openArgs, qemuImg } from '../support/images.js';
import { BIN, expectQcow2fs, isDaemon, type Outcome, qcow2fs, ROOT, type RunAs } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { waitUntil } from '../support/wait.js';

const SBIN = `${process.env['PATH']}:/usr/sbin:/sbin`;
const CHUNK = 1024 * 1024;

export type Defer = (action: () => void) => void;

/**
 * Gives a function that takes what is to be done after the running test, last things first, whatever came of it.
 * To be called in a `describe`.
 */
export function useCleanUp(): Defer {
  const actions: (() => void)[] = [];
  afterEach(() => {
    const errors: unknown[] = [];
    for (let action = actions.pop(); action !== undefined; action = actions.pop()) {
      try {
        action();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  });
  return (action) => actions.push(action);
}

/** Runs a system tool that may live in an sbin directory. */
export function tool(command: string, ...args: string[]): string {
  return run(command, args, { env: { ...process.env, PATH: SBIN } });
}

/** As `tool`, whatever its outcome. */
export function tryTool(command: string, ...args: string[]): Outcome {
  const env = { ...process.env, PATH: SBIN, LC_ALL: 'C' };
  const { error, status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env });
  if (error) throw error;
  return { status, stdout, stderr };
}

/** Mounts below this path, as the kernel knows them; `path` itself counts. */
export function mountsAt(place: string): string[] {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescaped(line.split(' ')[4] ?? ''))
    .filter((mountpoint) => mountpoint === place || mountpoint.startsWith(`${place}/`));
}

/** The kernel writes blanks as \\040 there. */
function unescaped(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Process IDs of the daemons that serve exactly this mountpoint. */
export function daemonsOf(mountpoint: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return isDaemon(words) && words.includes(mountpoint);
      } catch {
        return false;
      }
    })
    .map(Number)
    .filter(isRunning);
}

export function daemonOf(mountpoint: string): number {
  const found = daemonsOf(mountpoint);
  if (found.length !== 1) throw new Error(`${found.length} daemons serve ${mountpoint}`);
  return found[0]!;
}

/** A zombie has released everything and runs no more, unless other threads of it still do (proc(5), field 20). */
export function isRunning(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] !== 'X' && !(fields[0] === 'Z' && Number(fields[17]) <= 1);
  } catch {
    return false;
  }
}

/** What the descriptors of a running process lead to, by their paths in /proc; some may go meanwhile. */
export function openFilesOf(pid: number): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of fs.readdirSync(`/proc/${pid}/fd`)) {
    const fd = `/proc/${pid}/fd/${name}`;
    try {
      found.set(fd, fs.readlinkSync(fd));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}

export interface Mount {
  readonly mountpoint: string;
  /** What looks like the raw disk. */
  readonly disk: string;
  readonly log: string;
}

/**
 * Mounts read-only on a mountpoint of the caller's choice, and sees to its end: lazily unmounted after the test
 * when it is still there, its daemon killed when it still runs.
 */
export function mountOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, ['-r', ...args], image, mountpoint, runAs);
}

/** As `mountOn`, but the disk can be written. */
export function mountWritableOn(
  defer: Defer,
  image: string,
  mountpoint: string,
  args: readonly string[] = [],
  runAs: RunAs = {},
): Mount {
  return mountAny(defer, args, image, mountpoint, runAs);
}

function mountAny(
  defer: Defer,
  args: readonly string[],
  image: string,
  mountpoint: string,
  runAs: RunAs,
): Mount {
  const log = `${mountpoint}.log`;
  defer(() => endMount(mountpoint));
  expectQcow2fs(['mount', '--log', log, ...args, image, mountpoint], runAs);
  const disk = fs.statSync(mountpoint).isFile() ? mountpoint : path.join(mountpoint, 'disk.raw');
  return { mountpoint, disk, log };
}

/** A mount that may be refused; should it not be, it ends with the test. */
export function tryMount(
  defer: Defer,
  args: readonly string[],
  mountpoint: string,
  runAs: RunAs = {},
): Outcome {
  defer(() => endMount(mountpoint));
  return qcow2fs(['mount', ...args, mountpoint], runAs);
}

/** Whatever is left of a mount and its daemon goes. */
export function endMount(mountpoint: string): void {
  while (mountsAt(mountpoint).includes(mountpoint)) tool('umount', '-l', mountpoint);
  for (const pid of daemonsOf(mountpoint)) process.kill(pid, 'SIGKILL');
}

/**
 * A daemon that answers no more goes before anything that asks it: umount(8), close(2). To be deferred right after the
 * mount, and so to be done before its end.
 */
export function endDaemon(pid: number): void {
  if (isRunning(pid)) process.kill(pid, 'SIGKILL');
}

/** The lines of a daemon's log without time and process. */
export function logLines(log: string): string[] {
  return fs
    .readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/^\S+ qcow2fs\[\d+\]: /, ''));
}

export function sha256(file: string): string {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(CHUNK);
  const fd = fs.openSync(file, 'r');
  try {
    for (let read = -1; read !== 0; ) {
      read = fs.readSync(fd, buffer, 0, CHUNK, null);
      hash.update(buffer.subarray(0, read));
    }
  } finally {
    fs.closeSync(fd);
  }
  return hash.digest('hex');
}

/** All of a file that must stay as it is. */
export interface FileState {
  readonly name: string;
  readonly times: string;
  readonly content: string;
}

/** Sets old access times first: the kernel updates those at the very next read, were it allowed to. */
export function rememberFiles(dir: string): FileState[] {
  const contents = namesIn(dir).map((name) => sha256(path.join(dir, name)));
  for (const name of namesIn(dir)) tool('touch', '-a', '-d', '2001-02-03 04:05:06', path.join(dir, name));
  return namesIn(dir).map((name, index) => ({ name, times: timesOf(dir, name), content: contents[index]! }));
}

/** No byte and no time stamp of any file in the directory differs. */
export function expectUntouched(dir: string, before: readonly FileState[]): void {
  // Times first: hashing is reading.
  expect(namesIn(dir).map((name) => [name, timesOf(dir, name)])).to.deep.equal(
    before.map(({ name, times }) => [name, times]),
  );
  expect(namesIn(dir).map((name) => [name, sha256(path.join(dir, name))])).to.deep.equal(
    before.map(({ name, content }) => [name, content]),
  );
}

function namesIn(dir: string): string[] {
  return fs.readdirSync(dir).sort();
}

function timesOf(dir: string, name: string): string {
  const { size, mode, atimeNs, mtimeNs, ctimeNs, ino } = fs.statSync(path.join(dir, name), { bigint: true });
  return [size, mode, ino, atimeNs, mtimeNs, ctimeNs].join(' ');
}

/** sha256 of every regular file below a directory, by relative name. */
export function hashTree(top: string): Record<string, string> {
  const names = fs.readdirSync(top, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => fs.lstatSync(path.join(top, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, sha256(path.join(top, name))]));
}

/** Attaches a loop device, detached after the test; partitions and all when `--partscan` is among the options. */
export function attachLoop(defer: Defer, file: string, ...options: string[]): string {
  const loop = tool('losetup', '--find', '--show', ...options, file).trim();
  // By then it may long be free and attached by somebody else.
  defer(() => {
    if (backingFileOf(loop) === file) tryTool('losetup', '--detach', loop);
  });
  return loop;
}

function backingFileOf(loop: string): string {
  return tryTool('losetup', '--noheadings', '--output', 'BACK-FILE', loop).stdout.trim();
}

/** The device of partition 1 of a disk that is attached read-only, unless it is said to be writable. */
export function attachPartition(defer: Defer, disk: string, writable = false): string {
  const access = writable ? [] : ['--read-only'];
  const loop = attachLoop(defer, disk, ...access, '--partscan');
  const partition = `${loop}p1`;
  // Kernels that know no partition tables are told by partx.
  if (!fs.existsSync(partition)) tryTool('partx', '--add', loop);
  if (fs.existsSync(partition)) return partition;
  // No devtmpfs in this container: the partition's own loop device.
  const { start, size } = JSON.parse(tool('sfdisk', '--json', disk)).partitiontable.partitions[0];
  const window = ['--offset', String(start * 512), '--sizelimit', String(size * 512)];
  return attachLoop(defer, disk, ...access, ...window);
}

/** The disk's options on the command line: its key, if it has one. */
export function keyOptions({ secret }: Image): string[] {
  return secret === undefined ? [] : ['--secret-file', secret.file, '--secret-format', secret.format];
}

/** Detaches a loop device and waits until it has let go of its file: something else may have it open for a moment. */
export async function detachLoop(loop: string): Promise<void> {
  const file = backingFileOf(loop);
  tool('losetup', '--detach', loop);
  await waitUntil(`${loop} is free`, () => backingFileOf(loop) !== file);
}

/** Opens a file, does something with the descriptor, and closes it. */
export function withFile<T>(file: string, flags: string | number, use: (fd: number) => T): T {
  const fd = fs.openSync(file, flags);
  try {
    return use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** The name of what an action is refused with (`ENOSPC`), or `nothing`. */
export function refusalOf(action: () => unknown): string {
  try {
    action();
    return 'nothing';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** `qemu-img check` finds no error in a disk whose writer was killed; leaks are no errors. */
export function expectNoCorruption(image: Image): void {
  const args = ['check', '-q', ...keyArgs(image), ...openArgs(image)];
  const result = spawnSync('qemu-img', args, { cwd: image.dir, encoding: 'utf8' });
  if (result.status !== 0 && result.status !== 3) {
    throw new Error(`qemu-img check: status ${result.status}: ${result.stdout}${result.stderr}`);
  }
}

/** Takes away what a killed writer leaked; nothing may be wrong then. */
export function removeLeaks(image: Image): void {
  const args = ['check', '-q', '-r', 'leaks', ...keyArgs(image), ...openArgs(image)];
  qemuImg(image.dir, args);
  checkImage(image);
}

/** Bytes that a file takes of its host. */
export function bytesOnHost(file: string): number {
  return fs.statSync(file).blocks * 512;
}

/** An ordinary user that every system has, and one that nobody is. */
export const NOBODY = { uid: 65534, gid: 65534 } as const;
export const STRANGER = { uid: 64007, gid: 64007 } as const;

/** Whether a user can read a file, asked of the kernel. */
export function canRead(file: string, user: { uid: number; gid: number }): boolean {
  return spawnSync('cat', [file], { ...user, stdio: 'ignore' }).status === 0;
}

/**
 * Lets ordinary users run the program and use /dev/fuse while the surrounding `describe` runs. To be called there.
 * @returns runs `qcow2fs ARGS` as NOBODY, whatever its outcome
 */
export function useOrdinaryUser(home: string): (args: readonly string[], options?: RunAs) => Outcome {
  let command: readonly string[] = [];
  let mode = 0;
  let stateIsOurs = false;
  const state = `/tmp/qcow2fs-${NOBODY.uid}`;

  before(() => {
    mode = fs.statSync('/dev/fuse').mode & 0o7777;
    fs.chmodSync('/dev/fuse', 0o666);
    stateIsOurs = !fs.existsSync(state);
    fs.mkdirSync(home);
    fs.chownSync(home, NOBODY.uid, NOBODY.gid);
    for (let dir = path.dirname(home); dir.includes('qcow2fs-test-'); dir = path.dirname(dir)) {
      fs.chmodSync(dir, 0o755);
    }
    command = programFor(home);
  });
  after(() => {
    fs.chmodSync('/dev/fuse', mode);
    if (stateIsOurs) fs.rmSync(state, { recursive: true, force: true });
  });

  return (args, options = {}) => {
    const env = { PATH: process.env['PATH'], HOME: home };
    const result = spawnSync(command[0]!, [...command.slice(1), ...args], {
      encoding: 'utf8',
      timeout: 120_000,
      cwd: '/',
      env,
      ...NOBODY,
      ...options,
    });
    if (result.error) throw result.error;
    return { status: result.status, stdout: result.stdout, stderr: result.stderr };
  };
}

/** The program where NOBODY can run it: a checkout below /root is for root alone, so it is copied then. */
export function programFor(home: string): string[] {
  const here = [process.execPath, BIN];
  if (spawnSync(here[0]!, [BIN, '--version'], { ...NOBODY, cwd: '/' }).status === 0) return here;
  const copy = path.join(path.dirname(home), 'program');
  const shipped = ['bin', 'dist/app', 'package.json', 'node_modules'];
  for (const name of shipped) {
    fs.cpSync(fs.realpathSync(path.join(ROOT, name)), path.join(copy, name), { recursive: true });
  }
  fs.copyFileSync(process.execPath, path.join(copy, 'node'));
  tool('chmod', '-R', 'go+rX', copy);
  fs.chmodSync(path.join(copy, 'node'), 0o755);
  return [path.join(copy, 'node'), path.join(copy, 'bin/qcow2fs')];
}
