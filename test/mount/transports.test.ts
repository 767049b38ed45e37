/** What the transports promise, and what libfuse cannot do: contrib/docs/transports.md says so, and is held to it here. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { expect } from 'chai';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
  seekData,
  seekHole,
} from '../../src/host/libc.js';
import { useCleanUp } from '../support/clean-up.js';
import { refusalOf, withFile } from '../support/files.js';
import { createImage, type Image, imagePath, KiB, MiB, writeSteps } from '../support/images.js';
import { mountWritableOn } from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const SIZE = 8 * MiB;
const DATA = 4 * MiB;
const LARGEST = { libfuse: 128 * KiB, kernel: MiB } as const;
const GATED = new URL('./gated-reads.js', import.meta.url).href;
const { O_RDWR, O_DIRECT } = fs.constants;

interface Traced {
  readonly disk: string;
  readonly mountpoint: string;
  /** Of the requests of one kind that came since the call before this one. */
  sizes(kind: string): number[];
}

describe('a transport', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  let image: Image;

  beforeEach(() => {
    image = createImage(scratch.subdir(), { size: SIZE });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: DATA }]);
  });

  function mountTraced(transport: string): Traced {
    const env = { ...process.env, DEBUG: 'qcow2fs:fuse' };
    const args = ['--transport', transport];
    const { disk, mountpoint, log } = mountWritableOn(defer, imagePath(image), scratch.subdir(), args, {
      env,
    });
    let seen = 0;
    const sizes = (kind: string): number[] => {
      const text = fs.readFileSync(log, 'utf8');
      const fresh = [...text.slice(seen).matchAll(new RegExp(`${kind}: (\\d+) bytes`, 'g'))];
      seen = text.length;
      return fresh.map(([, size]) => Number(size));
    };
    return { disk, mountpoint, sizes };
  }

  for (const [transport, largest] of Object.entries(LARGEST)) {
    it(`${transport} gets reads of up to ${largest / KiB} KiB`, () => {
      const { disk, mountpoint, sizes } = mountTraced(transport);
      withFile(disk, O_RDWR | O_DIRECT, (fd) => fs.readSync(fd, Buffer.alloc(2 * MiB), 0, 2 * MiB, 0));
      // A thread that serves passes its traces on when it has time, or at its end.
      expectQcow2fs(['umount', mountpoint]);
      expect(Math.max(...sizes('READ'))).to.equal(largest);
    });

    it(`${transport} says EPERM to whoever makes, moves or removes a name beside a disk that can be written`, () => {
      const { disk, mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir(), [
        '--transport',
        transport,
      ]);
      const other = `${mountpoint}/other`;
      const outside = scratch.path('outside');
      fs.writeFileSync(outside, '');
      const changes = [
        () => fs.writeFileSync(other, ''),
        () => fs.mkdirSync(other),
        () => fs.symlinkSync('x', other),
        () => fs.linkSync(disk, other),
        () => fs.renameSync(disk, other),
        () => fs.unlinkSync(disk),
        () => fs.chmodSync(disk, 0o600),
        () => fs.chownSync(disk, 1, 1),
        () => tool('mkfifo', other),
      ];
      for (const change of changes) expect(refusalOf(change), String(change)).to.match(/EPERM|not permitted/);
      expectQcow2fs(['umount', mountpoint]);
    });

    // contrib/docs/transports.md: "its request is finished first; the mount goes on"
    it(`${transport} outlives a program that is killed while it waits for an answer`, async () => {
      const gate = `${scratch.subdir()}/gate`;
      const env = { ...withNodeOptions(`--import=${GATED}`), GATE: gate };
      const mountpoint = scratch.subdir();
      const { disk } = mountWritableOn(defer, imagePath(image), mountpoint, ['--transport', transport], {
        env,
      });
      defer(() => fs.rmSync(gate, { force: true }));
      fs.writeFileSync(gate, '');
      const reader = spawn('dd', [`if=${disk}`, 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct']);
      const ended = once(reader, 'exit');
      await waitUntil('the daemon reads', () => fs.existsSync(`${gate}.waiting`));
      reader.kill('SIGKILL');
      fs.rmSync(gate);
      expect(await ended).to.deep.equal([null, 'SIGKILL']);
      withFile(disk, 'r', (fd) => expect(fs.readSync(fd, Buffer.alloc(DATA), 0, DATA, 0)).to.equal(DATA));
      expectQcow2fs(['umount', mountpoint]);
    });
  }

  describe('of libfuse', () => {
    it('gets writes of up to 128 KiB, and each one at once', () => {
      const { disk, sizes } = mountTraced('libfuse');
      withFile(disk, 'r+', (fd) => {
        // The kernel splits what comes from memory that was not touched yet.
        const bytes = Buffer.alloc(MiB, 1);
        fs.writeSync(fd, bytes, 0, MiB, 0);
        expect(sizes('WRITE')).to.deep.equal(Array(8).fill(LARGEST.libfuse));
        for (let i = 0; i < 16; i++) fs.writeSync(fd, bytes, 0, 4 * KiB, i * 4 * KiB);
        expect(sizes('WRITE')).to.deep.equal(Array(16).fill(4 * KiB));
      });
    });

    // contrib/docs/transports.md: "no: everything is data; `cp --sparse=auto` reads all of it"
    it('shows no holes', () => {
      const { disk } = mountTraced('libfuse');
      withFile(disk, 'r', (fd) => {
        expect(seekData(fd, DATA + MiB)).to.equal(DATA + MiB);
        expect(seekHole(fd, 0)).to.equal(SIZE);
      });
      expect(fs.statSync(disk).blocks * 512, 'allocated').to.be.within(DATA, SIZE - MiB);
    });

    // contrib/docs/transports.md: "refused (EOPNOTSUPP) ²"
    it('makes no holes', () => {
      const { disk } = mountTraced('libfuse');
      withFile(disk, 'r+', (fd) => {
        for (const mode of [0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE]) {
          expect(refusalOf(() => fallocate(fd, mode, 0, MiB))).to.match(/^(EOPNOTSUPP|ENOTSUP)$/);
        }
      });
    });
  });
});
