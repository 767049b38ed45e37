/** Where a daemon may log: not into its disk, and not where the mount covers it. */
import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { endMount, mountsAt } from '../support/mounts.js';
import { type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

describe('the log of a mount', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function mountWithLog(log: string, image: string, mountpoint: string): Outcome {
    defer(() => endMount(mountpoint));
    const outcome = qcow2fs(['mount', '-r', '--log', log, image, mountpoint]);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    return outcome;
  }

  it('is none of the files of the disk, which stay as they are', () => {
    const dir = scratch.subdir();
    const base = imagePath(createImage(dir, { name: 'base', size: MiB }));
    const backing = { file: 'base', format: 'qcow2' } as const;
    const image = imagePath(createImage(dir, { name: 'overlay', size: MiB, backing }));
    const link = `${dir}/link`;
    fs.symlinkSync(base, link);
    for (const log of [image, base, link]) {
      const before = fs.readFileSync(log);
      const { status, stderr } = mountWithLog(log, image, scratch.subdir());
      expect(stderr).to.match(
        /^qcow2fs: [^\n]*: cannot be the log of its own disk; name another: --log FILE\n$/,
      );
      expect(status).to.equal(2);
      expect(fs.readFileSync(log).equals(before)).to.equal(true);
    }
  });

  it('is not below the mountpoint, nor the mountpoint itself', () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    const directory = scratch.subdir();
    const file = scratch.path('disk');
    fs.writeFileSync(file, '');
    for (const [log, mountpoint] of [
      [`${directory}/log`, directory],
      [file, file],
    ] as const) {
      const { status, stderr } = mountWithLog(log, image, mountpoint);
      expect(stderr).to.match(
        /^qcow2fs: --log [^\n]*: the mounted disk would cover it; name a file elsewhere\n$/,
      );
      expect(status).to.equal(2);
    }
    expect(fs.readdirSync(directory)).to.deep.equal([]);
  });

  it('is not waited for when it is a FIFO that nobody reads', () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    const log = scratch.path('fifo');
    tool('mkfifo', log);
    const { status, stderr } = mountWithLog(log, image, scratch.subdir());
    expect(stderr).to.match(/^qcow2fs: [^\n]*: cannot open the log: ENXIO[^\n]*\n$/);
    expect(status).to.equal(3);
  });
});
