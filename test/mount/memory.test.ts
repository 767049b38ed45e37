/** A daemon whose memory runs out does not leave without a word: its log tells, and what is left can be unmounted. */

import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { withFile } from '../support/files.js';
import { createImage, expectNoCorruption, imagePath, MiB } from '../support/images.js';
import {
  daemonOf,
  daemonsOf,
  isRunning,
  mountsAt,
  mountWritableOn,
  umountOfKilled,
} from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tool, tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import type { HungryThread } from './hungry-thread.js';

const PRELOAD = new URL('./hungry-thread.js', import.meta.url).href;
const HEAP = '--max-old-space-size=48';

const CASES: readonly { readonly thread: HungryThread; readonly transport: string; readonly log: RegExp }[] =
  [
    { thread: 'main', transport: 'kernel', log: /heap out of memory/ },
    { thread: 'main', transport: 'libfuse', log: /heap out of memory/ },
    { thread: 'serving', transport: 'kernel', log: /the mount broke down: a thread died: .*memory/ },
  ];

describe('a daemon that runs out of memory', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const { thread, transport, log: words } of CASES) {
    it(`in its ${thread} thread says so in its log and can be unmounted: ${transport}`, async () => {
      const image = createImage(scratch.subdir(), { size: 4 * MiB });
      const mountpoint = scratch.subdir();
      const trigger = `${mountpoint}.trigger`;
      const env = {
        ...withNodeOptions(`${HEAP} --import ${PRELOAD}`),
        HUNGRY_THREAD: thread,
        HUNGRY_TRIGGER: trigger,
      };
      const args = ['--transport', transport];
      const { disk, log } = mountWritableOn(defer, imagePath(image), mountpoint, args, { env });
      const daemon = daemonOf(mountpoint);
      tool('prlimit', '--pid', String(daemon), '--core=0');
      withFile(disk, 'r+', (fd) => {
        fs.writeSync(fd, Buffer.alloc(MiB, 0x5a), 0, MiB, MiB);
        fs.fsyncSync(fd);
      });
      fs.writeFileSync(trigger, '');
      // Whoever asks meanwhile gets an answer or an error.
      const asked = tryTool('dd', `if=${disk}`, 'of=/dev/null', 'bs=64k', 'iflag=direct');
      if (thread === 'serving') expect(asked.status).to.not.equal(0);
      await waitUntil('the daemon has ended', () => !isRunning(daemon));
      expect(fs.readFileSync(log, 'utf8')).to.match(words);

      const listed = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
      const entry = listed.find((candidate) => candidate['mountpoint'] === mountpoint);
      if (entry !== undefined) {
        expect(entry).to.include({ state: 'dead', pid: daemon });
        umountOfKilled(mountpoint);
      }
      expect(mountsAt(mountpoint)).to.deep.equal([]);
      expect(daemonsOf(mountpoint)).to.deep.equal([]);
      expectNoCorruption(image);
      const again = mountWritableOn(defer, imagePath(image), mountpoint);
      const bytes = withFile(again.disk, 'r', (fd) => {
        const read = Buffer.alloc(MiB);
        fs.readSync(fd, read, 0, MiB, MiB);
        return read;
      });
      expect(bytes.equals(Buffer.alloc(MiB, 0x5a)), 'what was flushed is there').to.equal(true);
      expectQcow2fs(['umount', mountpoint]);
    });
  }
});
