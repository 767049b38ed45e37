/** The other commands and the disk that is mounted: what they say of it, and what coreutils say of its file. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'chai';
import { EXIT_STATUS } from '../../src/cli/exit-status.js';
import { useCleanUp } from '../support/clean-up.js';
import { readField, truncateImage } from '../support/damage.js';
import { createImage, type Image, imagePath, KiB, MiB, takeSnapshot, writeSteps } from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { mountOn, mountWritableOn } from '../support/mounts.js';
import type { Outcome } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

describe('commands beside a mount', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function makeImage(): Image {
    const image = createImage(scratch.subdir(), { size: 5 * MiB + 512 });
    writeSteps(image, 1, [{ do: 'data', offset: MiB + 64 * KiB, length: MiB }]);
    return image;
  }

  it('check is refused with 12, but for --force-share; and a repair always', async () => {
    const image = imagePath(makeImage());
    const check = (...args: string[]): Promise<Outcome> => runInProcess(['check', ...args, image]);
    mountWritableOn(defer, image, scratch.subdir());
    const refused = await check();
    expect(refused.status).to.equal(12);
    expect(refused.stderr).to.match(/in use by qcow2fs \(process \d+\), which writes it; unmount it first/);
    expect((await check('--repair', 'leaks')).status).to.equal(12);
    expect((await check('--force-share')).status).to.equal(0);
  });

  it('hash gives sha256sum -c in a mountpoint what it accepts', async () => {
    const image = imagePath(makeImage());
    const { mountpoint } = mountOn(defer, image, scratch.subdir());
    const sums = scratch.path('accepted');
    fs.writeFileSync(sums, await expectInProcess(['hash', image]));
    expect(run('sha256sum', ['-c', sums], { cwd: mountpoint })).to.equal('disk.raw: OK\n');
  });

  it('hash --verify accepts what sha256sum wrote in a mountpoint', async () => {
    const image = imagePath(makeImage());
    const { mountpoint } = mountOn(defer, image, scratch.subdir());
    for (const args of [[], ['--tag']]) {
      const sums = scratch.path('written');
      fs.writeFileSync(sums, run('sha256sum', [...args, 'disk.raw'], { cwd: mountpoint }));
      expect(await expectInProcess(['hash', '--verify', sums, image])).to.equal('disk.raw: OK\n');
    }
  });

  it('a mount without the snapshot table that the file ends before shows the disk that hash reads, and logs it', async () => {
    const image = makeImage();
    takeSnapshot(image, 'one', '1');
    truncateImage(imagePath(image), Number(readField(imagePath(image), 'snapshotsOffset')));
    const { disk, log } = mountOn(defer, imagePath(image), scratch.subdir());
    const digest = createHash('sha256').update(fs.readFileSync(disk)).digest('hex');
    expect(await expectInProcess(['hash', imagePath(image)])).to.equal(`${digest}  disk.raw\n`);
    expect(fs.readFileSync(log, 'utf8')).to.contain('snapshot table entry 0');
  });

  it('map --svg does not write over a block device', async () => {
    const image = imagePath(makeImage());
    const device = scratch.path('device');
    run('mknod', [device, 'b', '7', '1048575']);
    const { status, stderr } = await runInProcess(['map', '--svg', device, image]);
    expect(status).to.equal(EXIT_STATUS['host-io']);
    expect(stderr).to.match(/^qcow2fs: [^\n]*device: cannot be written: it is a block device\n$/);
  });

  it('a mount in the process of a test that should be refused and is not ends, and the test fails', async () => {
    const mountpoint = scratch.subdir();
    const words = ['mount', '-r', '--foreground', imagePath(makeImage()), mountpoint];
    const failure = await runInProcess(words).catch(String);
    expect(failure).to.equal(`Error: qcow2fs ${words.join(' ')}: it mounted`);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
  });
});
