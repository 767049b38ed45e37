/**
 * A mount in the background is two processes: the launcher, whose end the caller waits for, and the daemon, which
 * serves. Starting Node takes longer than mounting, so the launcher is the shell script in `bin/qcow2fs`, where it
 * sees in time that a mount is wanted; else the program launches itself once more.
 *
 * The launcher hands the daemon one end of a pipe and ends with the status that it reads there: 0 as soon as the disk
 * can be opened, or what the daemon ended with. A daemon that dies in between cannot unmount; so it says where it is
 * about to mount (`mount at:` and the path in base64), then what it has mounted (`mount 43 0:39 2147`: see `MountName`),
 * and the launcher unmounts that.
 */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { commandLine, programArguments } from '../host/arguments.js';
import { HIDDEN_DEBUGGER } from '../host/debugger.js';
import { closeDescriptors, type Inherited, inheritedDescriptors, isOpen } from '../host/descriptors.js';
import { keepFromChildren } from '../host/libc.js';
import { type MountEntry, type MountName, mountedAt, mountOf, unmount } from '../host/mounts.js';
import { isRunning } from '../host/processes.js';
import { decodeName, encodeName } from '../names.js';

const PROGRAM = fileURLToPath(new URL('../cli/main.js', import.meta.url));

/** Names the process of the launcher, and the daemon's end of the pipe: `1234:5`. */
const LAUNCHER = 'QCOW2FS_LAUNCHER';
const READY = 0;
const FIRST_FD = 3;

let launcher = 0;
let statusFd: number | undefined;
let inherited: readonly Inherited[] = [];

/** The mount of a daemon that has died: what the shell script starts the program for. */
const LOST_MOUNT = 'QCOW2FS_LOST_MOUNT';
const AT = 'at:';
/** Milliseconds. */
const ASKING = 2000;

/** To be called first of all. @returns whether this process was only to unmount what a daemon left */
export function unmountLost(): boolean {
  const lost = process.env[LOST_MOUNT];
  if (lost === undefined) return false;
  unmountLazily(lost);
  return true;
}

/** @param lost as it was announced */
function unmountLazily(lost: string): void {
  try {
    const entry = findLost(lost);
    if (entry !== undefined) unmount(entry, true);
  } catch {
    // Somebody else has done it, or covered it.
  }
}

function findLost(lost: string): MountEntry | undefined {
  if (lost.startsWith(AT)) {
    const entry = mountedAt(decodeName(Buffer.from(lost.slice(AT.length), 'base64')));
    // Another daemon of this user may have mounted there since.
    return entry?.userId === process.getuid?.() && isDead(entry!) ? entry : undefined;
  }
  const [id = '', device = '', unique] = lost.split(' ');
  return mountOf({ id, device, unique });
}

/** Whether nobody serves the mount any more: a program asks, for one that is served may hang. */
function isDead({ mountpoint }: MountEntry): boolean {
  const env = { ...process.env, LC_ALL: 'C' };
  const asked = spawnSync(...commandLine('stat', ['--', mountpoint]), {
    env,
    timeout: ASKING,
    encoding: 'utf8',
  });
  return /not connected|connection abort/.test(asked.stderr);
}

/** To be called before anything else is opened. @returns whether a launcher waits for this process */
export function findLauncher(): boolean {
  const value = /^(\d+):(\d+)$/.exec(process.env[LAUNCHER] ?? '');
  delete process.env[LAUNCHER];
  if (value === null) return false;
  launcher = Number(value[1]);
  statusFd = Number(value[2]);
  const channel = Number(process.env['NODE_CHANNEL_FD']);
  inherited = inheritedDescriptors().filter(({ fd }) => fd !== statusFd && fd !== channel);
  return true;
}

export function hasLauncher(): boolean {
  return statusFd !== undefined;
}

/**
 * The caller's files are the caller's: a lock or a pipe of its script must not last as long as the mount. And no
 * program that this one starts may keep the launcher waiting.
 * @param kept a descriptor that is still to be used, until the next call
 */
export function letGoOfCaller(kept?: number): void {
  closeDescriptors(inherited.filter(({ fd }) => fd !== kept));
  inherited = inherited.filter(({ fd }) => fd === kept);
  if (statusFd !== undefined) keepFromChildren(statusFd);
}

/** Tells the launcher where to unmount when this process dies before it can tell what. */
export function announceMountpoint(path: string): void {
  announce(`${AT}${encodeName(path).toString('base64')}`);
}

/** Tells the launcher what to unmount when this process dies before the disk is ready. */
export function announceMount({ id, device, unique }: MountName): void {
  announce([id, device, unique].join(' ').trim());
}

function announce(mount: string): void {
  try {
    if (statusFd !== undefined) fs.writeSync(statusFd, `mount ${mount}\n`);
  } catch {
    // There is no launcher any more, which shows when it is to be released.
  }
}

/**
 * Tells the launcher. It ends with status 0 at once, and with any other one when this process has ended: then nothing
 * is left of it.
 * @returns false when there is no launcher any more
 */
export function releaseLauncher(status: number): boolean {
  if (statusFd === undefined) return false;
  const fd = statusFd;
  statusFd = undefined;
  try {
    // Who reads the pipe may have outlived it. It is asked first: once it has the answer, it ends.
    if (!isRunning(launcher)) return false;
    fs.writeSync(fd, `${status}\n`);
    return true;
  } catch {
    return false;
  } finally {
    if (status === READY) fs.closeSync(fd);
  }
}

/**
 * Does what `bin/qcow2fs` does: starts this program once more, with the same arguments, as a daemon.
 * @returns its status
 * @throws Qcow2fsError `internal` when it cannot be started
 */
export function launch(): Promise<number> {
  const args = programArguments();
  const wanted = descriptorsIn(args);
  const fd = Math.max(FIRST_FD - 1, ...wanted) + 1;
  const words = [HIDDEN_DEBUGGER, ...process.execArgv, PROGRAM, ...args];
  const daemon = spawn(...commandLine(process.execPath, words), {
    stdio: Array.from({ length: fd + 1 }, (_, index) =>
      index === fd ? 'pipe' : index < FIRST_FD || wanted.includes(index) ? index : 'ignore',
    ),
    env: { ...process.env, [LAUNCHER]: `${process.pid}:${fd}` },
  });
  return new Promise((resolve, reject) => {
    daemon.once('error', (error) => {
      reject(new Qcow2fsError('internal', `cannot start the daemon: ${hostReason(error)}`));
    });
    let text = '';
    const answer = daemon.stdio[fd] as NodeJS.ReadableStream | undefined;
    answer?.on('data', (bytes: Buffer) => {
      text += bytes.toString();
      if (!/^0$/m.test(text)) return;
      daemon.unref();
      resolve(READY);
    });
    answer?.once('end', () => {
      if (/^0$/m.test(text)) return;
      const status = /^\d+$/m.exec(text)?.[0];
      if (status !== undefined) return resolve(Number(status));
      const lost = [...text.matchAll(/^mount (.+)$/gm)].at(-1)?.[1];
      if (lost !== undefined) unmountLazily(lost);
      reject(new Qcow2fsError('internal', 'the daemon ended before the disk was ready; its log may say why'));
    });
  });
}

/** Descriptors that the arguments name, as in `--secret-file /dev/fd/3`: the daemon must have them, too. */
function descriptorsIn(args: readonly string[]): readonly number[] {
  const found = args.flatMap((word) =>
    [...word.matchAll(/\/fd\/(\d{1,3})\b/g)].map((match) => Number(match[1])),
  );
  return found.filter((fd) => fd >= FIRST_FD && isOpen(fd));
}
