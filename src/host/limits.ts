/** Whether the limits of this process (getrlimit(2)) leave room for what it is about to need. Linux only. */

import { type ChildProcess, spawn } from 'node:child_process';
import os from 'node:os';
import { hostReason, Qcow2fsError } from '../errors.js';
import fs from '../fs.js';

const ADDRESS_SPACE = 'Max address space';
/** Limits in bytes, how /proc/self/status counts what is used, and who sets them. */
const MEMORY_LIMITS = [
  { limit: ADDRESS_SPACE, used: 'VmSize', option: 'ulimit -v' },
  { limit: 'Max data size', used: 'VmData', option: 'ulimit -d' },
] as const;

/**
 * @param reserved bytes of address space that need no memory, besides
 * @throws Qcow2fsError `host-io` when fewer descriptors or bytes of memory are left
 */
export function assertRoom(descriptors: number, bytes: number, reserved = 0): void {
  const missing = descriptors - countFree(descriptors);
  if (missing > 0) {
    throw new Qcow2fsError('host-io', `${missing} file descriptors too few: raise the limit: ulimit -n`);
  }
  for (const { limit, used, option } of MEMORY_LIMITS) {
    const left = limitOf(limit) - usedOf(used);
    const needed = limit === ADDRESS_SPACE ? bytes + reserved : bytes;
    if (left >= needed) continue;
    const wanted = Math.ceil((needed - left) / 1024);
    throw new Qcow2fsError(
      'host-io',
      `memory is limited to ${wanted} KiB too little: raise the limit: ${option}`,
    );
  }
}

/** A limit on processes that is larger leaves room for a few. */
const MANY_PROCESSES = 4096;

/**
 * Tries it, because all processes and threads of the user count.
 * @throws Qcow2fsError `host-io` when not so many processes, or threads, can be started besides
 */
export async function assertProcesses(count: number): Promise<void> {
  if (limitOf('Max processes') > MANY_PROCESSES) return;
  const children: ChildProcess[] = [];
  try {
    for (let index = 0; index < count; index++) {
      const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
      await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
      children.push(child);
    }
  } catch (error) {
    const advice = 'raise the limit: ulimit -u';
    throw new Qcow2fsError('host-io', `too few processes can be started: ${hostReason(error)}; ${advice}`);
  } finally {
    // They count until they have ended.
    const ended = children.map((child) => new Promise((resolve) => child.once('exit', resolve)));
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(ended);
  }
}

/** @returns how many descriptors can be opened, up to `wanted` */
function countFree(wanted: number): number {
  const open: number[] = [];
  try {
    while (open.length < wanted) open.push(fs.openSync(os.devNull, 'r'));
  } catch {
    // There are no more.
  }
  for (const fd of open) fs.closeSync(fd);
  return open.length;
}

function limitOf(name: string): number {
  const limits = fs.readFileSync('/proc/self/limits', 'utf8');
  return Number(new RegExp(`^${name} +(\\d+)`, 'm').exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
}

function usedOf(name: string): number {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
}
