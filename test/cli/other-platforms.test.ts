/** On a platform that nobody has ported it to, the program says so where it mounts, and works where it does not. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { sha256 } from '../support/files.js';
import { convertToRaw, createImage, type Image, imagePath, KiB, MiB, writeSteps } from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { withNodeOptions } from '../support/node-options.js';
import { daemonsOf, mountsAt, stopDaemons } from '../support/processes.js';
import { expectQcow2fs, qcow2fs, type RunAs } from '../support/qcow2fs.js';
import { expectRefused } from '../support/refusals.js';
import { useScratch } from '../support/scratch.js';

const PRETENCE = new URL('./pretended-platform.js', import.meta.url).href;

function on(platform: string): RunAs {
  return { env: { ...withNodeOptions(`--import=${PRETENCE}`), PRETENDED_PLATFORM: platform } };
}

describe('a platform without a mount table that is known', () => {
  const scratch = useScratch();
  let image: Image;
  let base: Image;
  let mountpoint: string;

  before(() => {
    const dir = scratch.subdir();
    base = createImage(dir, { name: 'base.qcow2', size: MiB });
    writeSteps(base, 1, [{ do: 'data', offset: 0, length: 70 * KiB }]);
    image = createImage(dir, {
      name: 'top.qcow2',
      size: MiB,
      backing: { file: 'base.qcow2', format: 'qcow2' },
    });
    mountpoint = scratch.subdir();
  });
  afterEach(() => stopDaemons(mountpoint));

  for (const platform of ['freebsd', 'darwin']) {
    const attempts: Readonly<Record<string, () => string[]>> = {
      'mount in the background': () => ['mount', '-r', imagePath(image), mountpoint],
      'mount in the foreground': () => ['mount', '-r', '-f', imagePath(image), mountpoint],
      'mount with the kernel transport': () => [
        'mount',
        '--transport',
        'kernel',
        imagePath(image),
        mountpoint,
      ],
      'mount with the libfuse transport': () => [
        'mount',
        '--transport',
        'libfuse',
        imagePath(image),
        mountpoint,
      ],
      umount: () => ['umount', mountpoint],
      list: () => ['list'],
    };
    for (const [name, args] of Object.entries(attempts)) {
      it(`makes ${name} say so in one line, on ${platform}`, () => {
        expectRefused(qcow2fs(args(), on(platform)), 'fuse', [
          `cannot mount on ${platform}`,
          'need no mount',
        ]);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        expect(daemonsOf(mountpoint)).to.deep.equal([]);
      });
    }
  }

  it('does not keep info, check, map and hash from their work', async () => {
    const file = imagePath(image);
    for (const command of ['info', 'check', 'map']) {
      expect(expectQcow2fs([command, file], on('freebsd'))).to.equal(await expectInProcess([command, file]));
    }
    const [digest] = expectQcow2fs(['hash', file], on('freebsd')).split(' ');
    expect(digest).to.equal(sha256(convertToRaw(image)));
  });

  it('does not open the gate for files that an image names, links included', () => {
    const { dir } = image;
    const elsewhere = path.join(scratch.subdir(), 'elsewhere.qcow2');
    fs.renameSync(imagePath(base), elsewhere);
    fs.symlinkSync(elsewhere, imagePath(base));
    const file = imagePath(image);
    expectRefused(qcow2fs(['hash', file], on('freebsd')), 'named-file', [elsewhere, 'lies outside', dir]);
    expectQcow2fs(['hash', '--allow-dir', path.dirname(elsewhere), file], on('freebsd'));
  });
});
