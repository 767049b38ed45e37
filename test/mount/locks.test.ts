/** Nobody writes an image twice at once, and nobody reads what another one is changing unless asked to. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { lockForItself } from '../support/exclusive-lock.js';
import { sha256 } from '../support/files.js';
import { createImage, type Image, imagePath, MiB, qemuImg, qemuIo, writeSteps } from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { daemonOf, isRunning, mountOn, mountWritableOn, tryMount } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const SIZE = 4 * MiB;
const LOCKED = 12;

// SECURITY.md: "two daemons cannot write the image at once: QEMU's locks are taken"
describe('the lock of an image', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  let image: Image;

  beforeEach(() => {
    image = createImage(scratch.subdir(), { size: SIZE });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 2 * MiB }]);
  });

  /** A virtual machine, as far as locks go. @returns its process */
  function startQemu({ dir, name }: Image, readOnly = false): number {
    const pidFile = `${scratch.subdir()}/qsd.pid`;
    run(
      'qemu-storage-daemon',
      [
        ...['--daemonize', '--pidfile', pidFile, '--blockdev'],
        `driver=qcow2,node-name=disk,read-only=${readOnly ? 'on' : 'off'},file.driver=file,file.filename=${name}`,
      ],
      { cwd: dir },
    );
    const pid = Number(fs.readFileSync(pidFile, 'utf8'));
    defer(() => {
      if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    });
    return pid;
  }

  /** A mount with these options and of this image is refused, in a line that has all these words. */
  function expectLocked(args: readonly string[], ...words: (string | number)[]): void {
    const { status, stdout, stderr } = tryMount(defer, args, scratch.subdir());
    expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
    for (const word of words) expect(stderr).to.contain(String(word));
    expect(stdout).to.equal('');
    expect(status).to.equal(LOCKED);
  }

  /** What QEMU says when it is refused. */
  function expectQemuRefused(command: string, ...args: string[]): void {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: image.dir, encoding: 'utf8' });
    expect(stdout + stderr, args.join(' ')).to.match(/Failed to get .*lock/);
    expect(status, args.join(' ')).to.not.equal(0);
  }

  it('keeps us out while a virtual machine has the image, and names that', async () => {
    const pid = startQemu(image);
    const mountpoint = scratch.subdir();
    expectLocked([imagePath(image)], imagePath(image), 'qemu-storage-da', pid, '--force-share');
    expectLocked(['-r', imagePath(image)], 'qemu-storage-da', pid, '--force-share');
    const overlay = path.join(image.dir, 'overlay.qcow2');
    expectLocked(['--overlay', overlay, imagePath(image)], 'qemu-storage-da', pid);
    expect(fs.existsSync(overlay)).to.equal(false);
    process.kill(pid, 'SIGTERM');
    await waitUntil(`process ${pid} has ended`, () => !isRunning(pid));
    mountWritableOn(defer, imagePath(image), mountpoint);
    expectQcow2fs(['umount', mountpoint]);
  });

  it('lets us look with --force-share -r at what a virtual machine has', () => {
    const expected = qcow2fsHash();
    startQemu(image);
    const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir(), ['--force-share']);
    expect(sha256(disk)).to.equal(expected);
    expectQcow2fs(['umount', mountpoint]);
  });

  function qcow2fsHash(): string {
    const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir());
    const hash = sha256(disk);
    expectQcow2fs(['umount', mountpoint]);
    return hash;
  }

  it('keeps us from writing what a virtual machine reads, and lets us read it, too', () => {
    const pid = startQemu(image, true);
    const mountpoint = scratch.subdir();
    expectLocked([imagePath(image)], 'qemu-storage-da', pid, '-r');
    mountOn(defer, imagePath(image), mountpoint);
    expectQcow2fs(['umount', mountpoint]);
  });

  for (const transport of ['kernel', 'libfuse']) {
    it(`keeps everybody out while we write, until we unmount, with the ${transport} transport`, () => {
      const options = ['--transport', transport];
      const { mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir(), options);
      const daemon = daemonOf(mountpoint);
      expectQemuRefused('qemu-io', '-f', 'qcow2', '-c', 'write 0 4k', image.name);
      expectQemuRefused('qemu-io', '-r', '-f', 'qcow2', '-c', 'read 0 4k', image.name);
      expectQemuRefused('qemu-img', 'resize', '-f', 'qcow2', image.name, '+1M');
      expectQemuRefused('qemu-img', 'snapshot', '-c', 'now', image.name);
      expectQemuRefused('qemu-img', 'info', image.name);
      qemuImg(image.dir, ['info', '--force-share', image.name]);
      const other = scratch.subdir();
      expectLocked([imagePath(image)], 'qcow2fs', daemon);
      expectLocked(['-r', imagePath(image)], 'qcow2fs', daemon, '--force-share');
      mountOn(defer, imagePath(image), other, ['--force-share']);
      expectQcow2fs(['umount', other]);

      expectQcow2fs(['umount', mountpoint]);
      qemuIo(image, ['write 0 4k']);
      qemuImg(image.dir, ['snapshot', '-c', 'now', image.name]);
    });
  }

  it('is still held after a mount beside it was refused', () => {
    const { mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir());
    expectLocked([imagePath(image)]);
    expectLocked([imagePath(image)]);
    expectQemuRefused('qemu-io', '-f', 'qcow2', '-c', 'write 0 4k', image.name);
    expectQcow2fs(['umount', mountpoint]);
  });

  it('goes with a daemon that is killed', async () => {
    const { mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir());
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGKILL');
    await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
    qemuIo(image, ['write 0 4k']);
  });

  // SECURITY.md: "`--ignore-locks` gets around that, for reading"
  it('is not asked for with --ignore-locks, of any file of the chain, by any command that only reads', async () => {
    const expected = qcow2fsHash();
    const backing = { file: image.name, format: 'qcow2' } as const;
    const overlay = imagePath(createImage(image.dir, { name: 'overlay.qcow2', size: SIZE, backing }));
    for (const file of [overlay, imagePath(image)]) {
      const fd = lockForItself(file);
      defer(() => fs.closeSync(fd));
    }
    expectLocked(['-r', overlay], overlay, '--ignore-locks');
    const { mountpoint, disk } = mountOn(defer, overlay, scratch.subdir(), ['--ignore-locks']);
    expect(sha256(disk)).to.equal(expected);
    expectQcow2fs(['umount', mountpoint]);
    for (const command of [['check', '--chain'], ['map'], ['hash']]) {
      expect((await runInProcess([...command, overlay])).status, command[0]).to.equal(LOCKED);
      const { status, stderr } = await runInProcess([...command, '--ignore-locks', overlay]);
      expect([status, stderr], command[0]).to.deep.equal([0, '']);
    }
  });

  it('lets readers stand beside each other', () => {
    const first = mountOn(defer, imagePath(image), scratch.subdir());
    const second = mountOn(defer, imagePath(image), scratch.subdir());
    expect(sha256(first.disk)).to.equal(sha256(second.disk));
    qemuImg(image.dir, ['info', image.name]);
    qemuImg(image.dir, ['check', '-f', 'qcow2', image.name]);
    qemuImg(image.dir, ['compare', '-f', 'qcow2', '-F', 'raw', image.name, first.disk]);
    expectQemuRefused('qemu-io', '-f', 'qcow2', '-c', 'write 0 4k', image.name);
    for (const { mountpoint } of [first, second]) expectQcow2fs(['umount', mountpoint]);
  });

  describe('of a backing file', () => {
    let overlay: Image;
    beforeEach(() => {
      const backing = { file: image.name, format: 'qcow2' } as const;
      overlay = createImage(image.dir, { name: 'overlay.qcow2', size: SIZE, backing });
    });

    it('keeps us out while a virtual machine writes it', () => {
      const pid = startQemu(image);
      const words = [imagePath(image), 'qemu-storage-da', pid] as const;
      expectLocked([imagePath(overlay)], ...words);
      expectLocked(['-r', imagePath(overlay)], ...words);
      // What was locked before that is free again.
      qemuImg(overlay.dir, ['rebase', '-u', '-F', 'qcow2', '-b', 'elsewhere.qcow2', overlay.name]);
    });

    it('keeps others from writing it while we write the overlay, and lets them read', () => {
      const { mountpoint } = mountWritableOn(defer, imagePath(overlay), scratch.subdir());
      expectQemuRefused('qemu-io', '-f', 'qcow2', '-c', 'write 0 4k', image.name);
      expectLocked([imagePath(image)], 'qcow2fs', daemonOf(mountpoint));
      const reader = mountOn(defer, imagePath(image), scratch.subdir());
      qemuImg(image.dir, ['check', '-f', 'qcow2', image.name]);
      for (const place of [mountpoint, reader.mountpoint]) expectQcow2fs(['umount', place]);
      qemuIo(image, ['write 0 4k']);
    });

    it('is shared by two overlays that are written', () => {
      const backing = { file: image.name, format: 'qcow2' } as const;
      const other = createImage(image.dir, { name: 'other.qcow2', size: SIZE, backing });
      const mounts = [overlay, other].map((top) => mountWritableOn(defer, imagePath(top), scratch.subdir()));
      for (const { mountpoint } of mounts) expectQcow2fs(['umount', mountpoint]);
    });
  });

  it('covers an external data file', () => {
    const dir = scratch.subdir();
    image = createImage(dir, { size: SIZE, options: ['data_file=data.raw'] });
    const { mountpoint } = mountWritableOn(defer, imagePath(image), scratch.subdir());
    expectQemuRefused('qemu-io', '-f', 'raw', '-c', 'write 0 4k', 'data.raw');
    expectQcow2fs(['umount', mountpoint]);
    run('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', 'data.raw'], { cwd: dir });
  });
});
