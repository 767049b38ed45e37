/**
 * Loop devices, through losetup(8): util-linux knows how programs that want one at the same time get along. What is
 * attached where is read from /sys/block. Linux only.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';

const SYSTEM_PROGRAMS = '/usr/sbin:/sbin';
const BLOCK_DEVICES = '/sys/block';
/** How long others, udev above all, may look into a device that is to be detached: milliseconds. */
const PATIENCE = 5000;
const POLL_INTERVAL = 10;
/** A program that takes longer hangs: milliseconds. */
const PROGRAM_TIMEOUT = 60_000;

/** @throws Qcow2fsError `usage` for whoever cannot have loop devices */
export function refuseWithoutLoops(): void {
  if (process.platform !== 'linux') {
    throw new Qcow2fsError('usage', '--loop: this system has no loop devices; leave it out');
  }
  if (process.geteuid!() !== 0) {
    throw new Qcow2fsError('usage', '--loop: only root may attach loop devices; leave it out, or use sudo');
  }
}

/**
 * Attaches a file to a free loop device, with its partitions.
 * @returns the device and its partitions: `/dev/loop0`, `/dev/loop0p1`, ...
 * @throws Qcow2fsError `host-io`; nothing is attached then
 */
export async function attachLoop(file: string, readOnly: boolean): Promise<string[]> {
  const mode = readOnly ? ['--read-only'] : [];
  const device = (await run('losetup', ['--find', '--show', '--partscan', ...mode, '--', file])).trim();
  try {
    // A kernel that is built without partition tables is told them.
    if (partitionsOf(device).length === 0) await run('partx', ['--add', '--', device]).catch(() => {});
    return [device, ...partitionsOf(device)];
  } catch (error) {
    await detachLoop(device, file).catch(() => {});
    throw error;
  }
}

/**
 * Gives the device back, unless it is attached to another file by now.
 * @throws Qcow2fsError `mountpoint` while it is in use; it goes then by itself when its last user is gone
 */
export async function detachLoop(device: string, file: string): Promise<void> {
  if (!isAttached(device, file)) return;
  await run('losetup', ['--detach', device]);
  for (const deadline = Date.now() + PATIENCE; isAttached(device, file); await delay(POLL_INTERVAL)) {
    if (Date.now() > deadline) {
      throw new Qcow2fsError(
        'mountpoint',
        `${device} is in use, and is detached when that ends; see who: fuser -v ${device}*`,
      );
    }
  }
}

/** @throws Qcow2fsError `mountpoint` when the device or a partition of it is mounted, or otherwise claimed */
export function refuseUsedLoop(device: string, file: string): void {
  if (!isAttached(device, file)) return;
  for (const one of [...partitionsOf(device), device]) {
    if (!isClaimed(one)) continue;
    const where = mountpointOf(one);
    const holder = holdersOf(one)[0];
    const use =
      where !== undefined
        ? `is mounted on ${where}; unmount that first: umount ${where}`
        : `is used by ${holder === undefined ? 'another program' : `/dev/${holder}`}; see what that is: lsblk ${device}`;
    throw new Qcow2fsError('mountpoint', `${one} ${use}`);
  }
}

/** The devices that are attached to a file, or to one in a directory. */
export function loopsBelow(place: string): { readonly device: string; readonly file: string }[] {
  return namesIn(BLOCK_DEVICES)
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => {
      const device = `/dev/${name}`;
      const file = readLine(sysDirectory(device), 'loop/backing_file');
      return file === place || file?.startsWith(`${place}/`) ? [{ device, file }] : [];
    });
}

function isAttached(device: string, file: string): boolean {
  return readLine(sysDirectory(device), 'loop/backing_file') === file;
}

function partitionsOf(device: string): string[] {
  const name = path.basename(device);
  const numbers = namesIn(sysDirectory(device))
    .filter((entry) => entry.startsWith(`${name}p`))
    .map((entry) => Number(entry.slice(name.length + 1)))
    .sort((a, b) => a - b);
  return numbers.map((number) => `${device}p${number}`);
}

/** Whoever mounts a device, swaps to it or builds another one on it opens it exclusively. */
function isClaimed(device: string): boolean {
  try {
    fs.closeSync(fs.openSync(device, fs.constants.O_RDONLY | fs.constants.O_EXCL));
    return false;
  } catch (error) {
    return errnoName(error) === 'EBUSY';
  }
}

/** Undefined when it is not mounted where this process can see it. */
function mountpointOf(device: string): string | undefined {
  for (const line of fs.readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [source, mountpoint] = line.split(' ');
    if (source === device) return mountpoint;
  }
  return undefined;
}

/** Devices that are built on this one, by name: `dm-0`. */
function holdersOf(device: string): string[] {
  return namesIn(path.join(sysDirectory(device), 'holders'));
}

function namesIn(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

/** Of a device or a partition. */
function sysDirectory(device: string): string {
  const name = path.basename(device);
  const whole = /^(loop\d+)p\d+$/.exec(name)?.[1];
  return path.join(BLOCK_DEVICES, whole ?? '', name);
}

function readLine(directory: string, name: string): string | undefined {
  try {
    return fs.readFileSync(path.join(directory, name), 'utf8').trimEnd();
  } catch {
    return undefined;
  }
}

/** @returns what the program prints. @throws Qcow2fsError `host-io` with the first line of what it complains about */
function run(program: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_PROGRAMS}` };
  return new Promise((resolve, reject) => {
    execFile(program, args, { env, timeout: PROGRAM_TIMEOUT }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (errnoName(error) === 'ENOENT') {
        reject(new Qcow2fsError('host-io', `${program} is not installed: apt-get install mount util-linux`));
      } else {
        const reason = stderr.trim().split('\n', 1)[0] || hostReason(error);
        reject(new Qcow2fsError('host-io', reason.startsWith(program) ? reason : `${program}: ${reason}`));
      }
    });
  });
}
