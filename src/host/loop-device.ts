/**
 * Loop devices, through losetup(8): util-linux knows how programs that want one at the same time get along. What is
 * attached where is read from /sys/block. Linux only.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { shellWord } from '../printable.js';
import { commandLine } from './arguments.js';
import { unescapeOctal } from './mounts-linux.js';

const SYSTEM_PROGRAMS = '/usr/sbin:/sbin';
const BLOCK_DEVICES = '/sys/block';
/** How long others, udev above all, may look into a device that is to be detached: milliseconds. */
const PATIENCE = 5000;
const POLL_INTERVAL = 10;
const DEFAULT_SECTOR = 512;
/** A program that takes longer hangs; detaching writes back what is cached of the device: milliseconds. */
const PROGRAM_TIMEOUT = 120_000;

/** @throws Qcow2fsError `usage` for whoever cannot have loop devices */
export function refuseWithoutLoops(): void {
  if (process.platform !== 'linux') {
    throw new Qcow2fsError('usage', '--loop: this system has no loop devices; leave it out');
  }
  if (process.geteuid!() !== 0) {
    throw new Qcow2fsError('usage', '--loop: only root may attach loop devices; leave it out, or use sudo');
  }
}

/** A device as it is attached now. */
export interface LoopDevice {
  /** `/dev/loop0` */
  readonly device: string;
  /** Tells what is attached from whatever is later: the kernel counts (sysfs, diskseq); empty before Linux 5.15. */
  readonly sequence: string;
}

export function isLoopDevice(value: unknown): value is LoopDevice {
  if (typeof value !== 'object' || value === null) return false;
  const { device, sequence } = value as Partial<LoopDevice>;
  return /^\/dev\/loop\d+$/.test(String(device)) && /^\d*$/.test(String(sequence));
}

/**
 * Attaches a file to a free loop device, with its partitions.
 * @param sectorSize bytes
 * @returns the device, and the paths of its partitions: `/dev/loop0p1`, ...
 * @throws Qcow2fsError `host-io`; nothing is attached then
 */
export async function attachLoop(
  file: string,
  readOnly: boolean,
  sectorSize: number,
): Promise<LoopDevice & { readonly partitions: readonly string[] }> {
  const options = [...(readOnly ? ['--read-only'] : []), ...sectorOption(sectorSize)];
  try {
    const device = (await run('losetup', ['--find', '--show', '--partscan', ...options, '--', file])).trim();
    if (!isLoopDevice({ device, sequence: '' }) || !hasFile(device)) {
      await run('losetup', ['--detach', device]);
      throw new Qcow2fsError('host-io', `${device}: cannot tell what it is: is /sys mounted?`);
    }
    // A kernel that is built without partition tables is told them.
    if (partitionsOf(device).length === 0) await run('partx', ['--add', '--', device]).catch(() => {});
    return { device, sequence: sequenceOf(device), partitions: partitionsOf(device) };
  } catch (error) {
    // A program that was killed may have attached it all the same.
    for (const left of loopsBelow(file)) await detachLoop(left).catch(() => {});
    throw error;
  }
}

/** Where the kernel's own size is wanted, an old losetup does without the option. */
function sectorOption(bytes: number): string[] {
  return bytes === DEFAULT_SECTOR ? [] : ['--sector-size', String(bytes)];
}

/**
 * Gives the device back, unless something else is attached by now.
 * @throws Qcow2fsError `mountpoint` while it is in use; it goes then by itself when its last user is gone
 */
export async function detachLoop(loop: LoopDevice): Promise<void> {
  if (!isAttached(loop)) return;
  await run('losetup', ['--detach', loop.device]);
  for (const deadline = Date.now() + PATIENCE; isAttached(loop); await delay(POLL_INTERVAL)) {
    if (Date.now() > deadline || isBuiltOn(loop.device)) {
      throw new Qcow2fsError(
        'mountpoint',
        `${loop.device} is in use, and is detached when that ends; see who: fuser -v ${loop.device}*`,
      );
    }
  }
}

/** @throws Qcow2fsError `mountpoint` when the device or a partition of it is mounted, or otherwise claimed */
export function refuseUsedLoop(loop: LoopDevice): void {
  if (!isAttached(loop)) return;
  const { device } = loop;
  const claimed = [...partitionsOf(device), device].find(isClaimed);
  if (claimed === undefined) return;
  const where = mountpointOf(claimed);
  const holder = holdersOf(claimed)[0];
  const use =
    where !== undefined
      ? `is mounted on ${where}; unmount that first: umount ${shellWord(where)}`
      : `is used by ${holder === undefined ? 'another program' : `/dev/${holder}`}; see what that is: lsblk ${device}`;
  throw new Qcow2fsError('mountpoint', `${claimed} ${use}`);
}

/** Whether it or a partition of it is mounted, or part of another device: that does not end by itself. */
function isBuiltOn(device: string): boolean {
  return [device, ...partitionsOf(device)].some(
    (one) => mountpointOf(one) !== undefined || holdersOf(one).length > 0,
  );
}

/** The devices that are attached to a file, or to one in a directory. */
export function loopsBelow(place: string): LoopDevice[] {
  return namesIn(BLOCK_DEVICES)
    .filter((name) => name.startsWith('loop'))
    .map((name) => `/dev/${name}`)
    .filter((device) => {
      const file = backingFile(device);
      return file === place || file?.startsWith(`${place}/`);
    })
    .map((device) => ({ device, sequence: sequenceOf(device) }));
}

export function isAttached({ device, sequence }: LoopDevice): boolean {
  return hasFile(device) && (sequence === '' || sequence === sequenceOf(device));
}

function hasFile(device: string): boolean {
  return backingFile(device) !== undefined;
}

/** Its path when it was attached, if nobody moved it since. */
function backingFile(device: string): string | undefined {
  return readLine(sysDirectory(device), 'loop/backing_file');
}

/** `major:minor` of the file system that has the attached file, as the kernel knows it. */
export async function backingDeviceOf({ device }: LoopDevice): Promise<string> {
  return (await run('losetup', ['--noheadings', '--output', 'BACK-MAJ:MIN', '--list', device])).trim();
}

function sequenceOf(device: string): string {
  return readLine(sysDirectory(device), 'diskseq') ?? '';
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
    if (source === device) return unescapeOctal(mountpoint ?? '');
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
    return fs.readFileSync(path.join(directory, name), 'utf8').replace(/\n$/, '');
  } catch {
    return undefined;
  }
}

/**
 * Runs a program that no signal of the terminal reaches.
 * @returns what it prints
 * @throws Qcow2fsError `host-io` with the first line of what it complains about, or when it does not end
 */
function run(program: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_PROGRAMS}` };
  return new Promise((resolve, reject) => {
    const fail = (text: string): void => {
      clearTimeout(timer);
      reject(new Qcow2fsError('host-io', text.startsWith(program) ? text : `${program}: ${text}`));
    };
    const child = spawn(...commandLine(program, args), {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // One that waits inside the kernel does not even end then.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      fail(`it did not end within ${PROGRAM_TIMEOUT / 1000} s: ${args.join(' ')}`);
    }, PROGRAM_TIMEOUT);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (bytes) => {
      stdout += bytes;
    });
    child.stderr.on('data', (bytes) => {
      stderr += bytes;
    });
    child.once('error', (error) => {
      const missing = errnoName(error) === 'ENOENT';
      fail(missing ? 'it is not installed: apt-get install mount util-linux' : hostReason(error));
    });
    child.once('close', (status, signal) => {
      if (status !== 0) return fail(stderr.trim().split('\n', 1)[0] || `it ended with ${signal ?? status}`);
      clearTimeout(timer);
      resolve(stdout);
    });
  });
}
