/** A daemon and `umount` act on their mount, wherever its path leads meanwhile. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { refusalOf, withFile } from '../support/files.js';
import { createImage, type Image, imagePath, MiB } from '../support/images.js';
import { daemonOf, isRunning, mountOn, mountsAt, mountWritableOn } from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const SIZE = 4 * MiB;

describe('a mount whose path leads elsewhere', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  const image = (): Image => createImage(scratch.subdir(), { size: SIZE });

  /** A mountpoint with a directory above it that can be renamed. */
  function nested(): { above: string; elsewhere: string; mountpoint: string } {
    const above = scratch.path('above');
    fs.mkdirSync(path.join(above, 'mnt'), { recursive: true });
    const elsewhere = `${above}.old`;
    // Where it is in the end.
    defer(() => {
      for (const place of mountsAt(elsewhere)) tool('umount', '-l', place);
      for (const place of [above, elsewhere]) fs.rmSync(place, { recursive: true, force: true });
    });
    return { above, elsewhere, mountpoint: path.join(above, 'mnt') };
  }

  function swap({ above, elsewhere }: { above: string; elsewhere: string }): void {
    fs.renameSync(above, elsewhere);
    fs.mkdirSync(path.join(above, 'mnt'), { recursive: true });
  }

  it('does not shorten the file that it had covered', () => {
    const file = scratch.path('covered');
    fs.writeFileSync(file, Buffer.alloc(20 * MiB, 'x'));
    const mount = mountWritableOn(defer, imagePath(image()), file);
    const daemon = daemonOf(file);
    withFile(mount.disk, 'r+', (fd) => {
      tool('umount', '-l', file);
      fs.writeSync(fd, 'beyond', SIZE);
      expect(refusalOf(() => fs.fsyncSync(fd))).to.equal('ENOSPC');
    });
    return waitUntil('the daemon has ended', () => !isRunning(daemon)).then(() => {
      expect(fs.statSync(file).size).to.equal(20 * MiB);
    });
  });

  it('does not shorten the file that is in its place', async () => {
    const place = nested();
    const { disk } = mountWritableOn(defer, imagePath(image()), place.mountpoint);
    const victim = path.join(place.above, 'mnt/disk.raw');
    withFile(disk, 'r+', (fd) => {
      swap(place);
      fs.writeFileSync(victim, Buffer.alloc(20 * MiB, 'x'));
      fs.writeSync(fd, 'beyond', SIZE);
      expect(refusalOf(() => fs.fsyncSync(fd))).to.equal('ENOSPC');
    });
    await waitUntil('the disk has its size again', () => {
      return fs.statSync(path.join(place.elsewhere, 'mnt/disk.raw')).size === SIZE;
    });
    expect(fs.statSync(victim).size).to.equal(20 * MiB);
    expect(qcow2fs(['umount', path.join(place.elsewhere, 'mnt')]).status).to.equal(0);
  });

  it('ends by SIGTERM, and what is mounted in its place stays', async () => {
    const place = nested();
    mountOn(defer, imagePath(image()), place.mountpoint);
    const daemon = daemonOf(place.mountpoint);
    swap(place);
    tool('mount', '-t', 'tmpfs', 'none', place.mountpoint);
    defer(() => tool('umount', place.mountpoint));
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(mountsAt(place.elsewhere)).to.deep.equal([]);
    expect(mountsAt(place.mountpoint)).to.deep.equal([place.mountpoint]);
  });

  it('ends by SIGTERM after a lazy unmount, and the next disk on its mountpoint stays', async () => {
    const mountpoint = scratch.subdir();
    const { disk } = mountOn(defer, imagePath(image()), mountpoint);
    const daemon = daemonOf(mountpoint);
    const fd = fs.openSync(disk, 'r');
    tool('umount', '-l', mountpoint);
    mountOn(defer, imagePath(image()), mountpoint);
    process.kill(daemon, 'SIGTERM');
    fs.closeSync(fd);
    await waitUntil('the first daemon has ended', () => !isRunning(daemon));
    expect(mountsAt(mountpoint)).to.deep.equal([mountpoint]);
    expect(fs.statSync(disk).size).to.equal(SIZE);
    expect(qcow2fs(['umount', mountpoint]).status).to.equal(0);
  });

  it('is made on the directory that was looked at', () => {
    const { above, elsewhere, mountpoint } = nested();
    const preload = new URL('./swapping.js', import.meta.url).href;
    const env = { ...withNodeOptions(`--import ${preload}`), SWAP_FROM: above, SWAP_TO: elsewhere };
    const { status, stderr } = qcow2fs(['mount', '--log', `${above}.log`, imagePath(image()), mountpoint], {
      env,
    });
    expect([status, stderr]).to.deep.equal([0, '']);
    expect(mountsAt(above)).to.deep.equal([]);
    expect(fs.statSync(path.join(elsewhere, 'mnt/disk.raw')).size).to.equal(SIZE);
    expect(qcow2fs(['umount', path.join(elsewhere, 'mnt')]).status).to.equal(0);
  });

  it('is not unmounted by the name of another file system on top, which stays', () => {
    const mountpoint = scratch.subdir();
    mountOn(defer, imagePath(image()), mountpoint);
    tool('mount', '-t', 'tmpfs', 'none', mountpoint);
    const refused = qcow2fs(['umount', mountpoint]);
    expect(refused.stderr).to.match(/another file system is mounted on top; unmount that first: umount /);
    expect(refused.status).not.to.equal(0);
    expect(mountsAt(mountpoint)).to.have.length(2);
    tool('umount', mountpoint);
    expect(qcow2fs(['umount', mountpoint]).status).to.equal(0);
  });
});
