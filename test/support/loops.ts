/** Loop devices on a disk, which end with the test. */
import fs from 'node:fs';
import type { Defer } from './clean-up.js';
import { tool, tryTool } from './run.js';
import { waitUntil } from './wait.js';

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

/** Detaches a loop device and waits until it has let go of its file: something else may have it open for a moment. */
export async function detachLoop(loop: string): Promise<void> {
  const file = backingFileOf(loop);
  tool('losetup', '--detach', loop);
  await waitUntil(`${loop} is free`, () => backingFileOf(loop) !== file);
}
