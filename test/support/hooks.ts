/** Root hooks: whatever a test did, no mount and no daemon outlives it. */

import fs from 'node:fs';
import { isFuseNativeLoaded } from './fuse-native.js';
import { isDaemon, unmountAll } from './qcow2fs.js';
import { scratchDirs } from './scratch.js';
import { waitUntil } from './wait.js';

const END_MS = 5000;

/** Daemons that serve a mountpoint below a scratch directory of this process, by their command line. */
function daemons(): string[] {
  return fs.readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return isDaemon(words) && words.some(isScratch);
    } catch {
      return false;
    }
  });
}

function mounts(): string[] {
  const mountpoints = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4]);
  return mountpoints.filter((mountpoint) => mountpoint !== undefined && isScratch(mountpoint)) as string[];
}

function isScratch(path: string): boolean {
  return scratchDirs.some((dir) => path.startsWith(`${dir}/`));
}

export const mochaHooks = {
  afterEach(): void {
    unmountAll();
  },
  async afterAll(): Promise<void> {
    // A mount in this process that should have been refused: the file has failed, and is to say so and end.
    if (isFuseNativeLoaded()) setTimeout(() => process.exit(), END_MS).unref();
    const left = mounts();
    if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
    // The plain umount(8) does not wait for the daemon, which saves, releases the image and only then ends.
    await waitUntil('all daemons have ended', () => daemons().length === 0);
  },
};
