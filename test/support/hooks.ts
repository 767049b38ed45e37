/** Root hooks: whatever a test did, no mount and no daemon outlives it; and parts of the long lane. */

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

/**
 * With QCOW2FS_SLICE=2/8, the second of eight parts of each file: of what its top suites hold, every eighth. It begins
 * elsewhere in each file, so that files with few tests are not all in the first part.
 */
function keepSlice(root: Mocha.Suite): void {
  const slice = process.env['QCOW2FS_SLICE'] ?? '';
  if (slice === '') return;
  const [part, parts] = slice.split('/').map(Number);
  if (!(part! >= 1 && part! <= parts!)) throw new Error(`QCOW2FS_SLICE=${slice}: 2/8 is the second of eight`);
  let index = 0;
  for (const letter of root.suites[0]?.title ?? '') index += letter.charCodeAt(0);
  const isIn = (): boolean => index++ % parts! === part! - 1;
  for (const top of root.suites) {
    top.tests = top.tests.filter(isIn);
    top.suites = top.suites.filter(isIn);
  }
}

export const mochaHooks = {
  beforeAll(this: Mocha.Context): void {
    keepSlice(this.test!.parent!);
  },
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
