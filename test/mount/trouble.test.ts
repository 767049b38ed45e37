/**
 * A daemon whose host is in trouble: files that are taken away below it, no descriptors, no room for its log. It goes on
 * as far as it can, says what it cannot do, and can always be unmounted.
 */

import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { hostOffset, patchL2, readL2, truncateImage } from '../support/damage.js';
import { refusalOf, withFile } from '../support/files.js';
import { convertToRaw, createImage, type Image, imagePath, KiB, MiB, writeSteps } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import {
  daemonOf,
  daemonsOf,
  logLines,
  type Mount,
  mountOn,
  mountsAt,
  mountWritableOn,
  openFilesOf,
} from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const SIZE = 8 * MiB;
const { O_DIRECT, O_RDONLY, O_RDWR, O_WRONLY } = fs.constants;
const THREADS = 4;
const TRANSPORTS = ['kernel', 'libfuse'] as const;

describe('a daemon in trouble', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function makeImage(dir = scratch.subdir()): { image: Image; expected: Buffer } {
    const image = createImage(dir, { size: SIZE });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: SIZE }]);
    const raw = convertToRaw(image);
    const expected = fs.readFileSync(raw);
    fs.rmSync(raw);
    return { image, expected };
  }

  /** An ext4 on a loop device, to be taken away. */
  function makeHost(): { place: string; backing: string; loop: string } {
    const place = scratch.subdir();
    const backing = `${place}.backing`;
    fs.writeFileSync(backing, '');
    fs.truncateSync(backing, 48 * MiB);
    const loop = attachLoop(defer, backing);
    tool('mkfs.ext4', '-q', '-m', '0', loop);
    tool('mount', loop, place);
    defer(() => {
      while (mountsAt(place).length > 0) tool('umount', '-l', place);
    });
    return { place, backing, loop };
  }

  function readDirectly(disk: string, offset: number, length: number): Buffer {
    return withFile(disk, O_RDONLY | O_DIRECT, (fd) => {
      const bytes = Buffer.alloc(length);
      expect(fs.readSync(fd, bytes, 0, length, offset)).to.equal(length);
      return bytes;
    });
  }

  async function unmount({ mountpoint, log }: Mount): Promise<void> {
    expectQcow2fs(['umount', mountpoint]);
    await waitUntil('the daemon has ended', () => daemonsOf(mountpoint).length === 0);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    expect(logLines(log).at(-1)).to.match(/: unmounted$/);
  }

  for (const transport of TRANSPORTS) {
    it(`without a free descriptor reads, writes, flushes and ends as ever: ${transport}`, async () => {
      const { image, expected } = makeImage();
      const args = ['--transport', transport, '--threads', String(THREADS)];
      const mount = mountWritableOn(defer, imagePath(image), scratch.subdir(), args);
      const daemon = daemonOf(mount.mountpoint);
      if (transport === 'kernel' && availableParallelism() > 1)
        await waitUntil('all threads serve', () => threadsServing(daemon) === THREADS);
      tool('prlimit', '--pid', String(daemon), '--nofile=3:3');
      expect(fs.readFileSync(mount.disk).equals(expected)).to.equal(true);
      const block = Buffer.alloc(64 * KiB, 0x5a);
      withFile(mount.disk, O_RDWR, (fd) => {
        for (let at = 0; at < SIZE; at += 2 * block.length) fs.writeSync(fd, block, 0, block.length, at);
        fs.fsyncSync(fd);
      });
      // Its time cannot be told, for the mount cannot be looked up.
      withFile(mount.disk, O_WRONLY, (fd) => fs.writeSync(fd, block, 0, block.length, 0));
      expect(expectQcow2fs(['list'])).to.contain(mount.disk);
      await unmount(mount);
      for (let at = 0; at < SIZE; at += 2 * block.length) block.copy(expected, at);
      expect(fs.readFileSync(convertToRaw(image)).equals(expected)).to.equal(true);
    });

    it(`keeps the image that it opened when another takes its name: ${transport}`, async () => {
      const { image, expected } = makeImage();
      const mount = mountOn(defer, imagePath(image), scratch.subdir(), ['--transport', transport]);
      const other = path.join(image.dir, 'other');
      fs.writeFileSync(other, 'something else');
      fs.renameSync(other, imagePath(image));
      expect(readDirectly(mount.disk, 0, SIZE).equals(expected)).to.equal(true);
      await unmount(mount);
      expect(fs.readFileSync(imagePath(image), 'utf8')).to.equal('something else');
    });

    it(`goes on when the file system of the image is taken away (umount -l): ${transport}`, async () => {
      const { place } = makeHost();
      const { image, expected } = makeImage(place);
      const mount = mountWritableOn(defer, imagePath(image), scratch.subdir(), ['--transport', transport]);
      tool('umount', '-l', place);
      expect(fs.existsSync(imagePath(image))).to.equal(false);
      const block = Buffer.alloc(64 * KiB, 0x5a);
      withFile(mount.disk, O_RDWR, (fd) => {
        fs.writeSync(fd, block, 0, block.length, MiB);
        fs.fsyncSync(fd);
      });
      block.copy(expected, MiB);
      expect(readDirectly(mount.disk, 0, SIZE).equals(expected)).to.equal(true);
      await unmount(mount);
    });

    it(`tells of an I/O error of the host, and keeps what can be read: ${transport}`, async () => {
      const { place, backing, loop } = makeHost();
      const { image, expected } = makeImage(place);
      // Read anew from the loop device, which ends before the last part of the disk.
      tool('umount', place);
      tool('mount', loop, place);
      const mount = mountOn(defer, imagePath(image), scratch.subdir(), ['--transport', transport]);
      expect(readDirectly(mount.disk, 0, MiB).equals(expected.subarray(0, MiB))).to.equal(true);
      const cut = firstByteOnDevice(imagePath(image), hostOffset(imagePath(image), 6 * MiB));
      fs.truncateSync(backing, cut);
      expect(refusalOf(() => readDirectly(mount.disk, 6 * MiB, MiB))).to.equal('EIO');
      expect(readDirectly(mount.disk, 0, MiB).equals(expected.subarray(0, MiB))).to.equal(true);
      expect(logLines(mount.log).join('\n')).to.match(/image\.qcow2: read failed at 0x[0-9a-f]+: EIO/);
      await unmount(mount);
    });

    it(`does without its log when that has no room: ${transport}`, async () => {
      const place = scratch.subdir();
      tool('mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', place);
      defer(() => tool('umount', '-l', place));
      expect(refusalOf(() => fs.writeFileSync(path.join(place, 'ballast'), Buffer.alloc(MiB)))).to.equal(
        'ENOSPC',
      );
      const { image, expected } = makeImage();
      patchL2(imagePath(image), MiB, readL2(imagePath(image), MiB) | 0x200n);
      const log = path.join(place, 'log');
      const args = ['--transport', transport, '--log', log];
      const mount = mountOn(defer, imagePath(image), scratch.subdir(), args);
      expect(refusalOf(() => readDirectly(mount.disk, MiB, 64 * KiB))).to.equal('EIO');
      expect(readDirectly(mount.disk, 0, MiB).equals(expected.subarray(0, MiB))).to.equal(true);
      expectQcow2fs(['umount', mount.mountpoint]);
      expect(fs.statSync(log).size).to.equal(0);
      expect(daemonsOf(mount.mountpoint)).to.deep.equal([]);
    });
  }

  it('shows zeros, as QEMU does, where the image was cut off below it, and a line in the log', async () => {
    const { image, expected } = makeImage();
    const mount = mountOn(defer, imagePath(image), scratch.subdir());
    const end = 3 * MiB;
    expect(hostOffset(imagePath(image), 4 * MiB)).to.be.greaterThan(hostOffset(imagePath(image), end));
    truncateImage(imagePath(image), hostOffset(imagePath(image), end));
    const reference = fs.readFileSync(convertToRaw(image));
    expect(reference.subarray(0, end).equals(expected.subarray(0, end))).to.equal(true);
    expect(reference.equals(expected)).to.equal(false);
    expect(readDirectly(mount.disk, 0, SIZE).equals(reference)).to.equal(true);
    await unmount(mount);
    const lines = logLines(mount.log).filter((line) => line.includes('was it cut off?'));
    expect(lines).to.have.length(1);
  });
});

/** Each thread polls a descriptor of its own, besides the one that all share, where there is more than one processor. */
function threadsServing(pid: number): number {
  return [...openFilesOf(pid).values()].filter((target) => target === '/dev/fuse').length - 1;
}

/** Where in its file system's device a byte of a file lies. */
function firstByteOnDevice(file: string, offset: number): number {
  const [block] = tool('filefrag', '-b4096', '-e', '-v', file)
    .split('\n')
    .map((line) => /^\s*\d+:\s+(\d+)\.\.\s*(\d+):\s+(\d+)\.\./.exec(line)?.slice(1).map(Number))
    .filter((extent) => extent !== undefined && extent[0]! <= offset / 4096 && offset / 4096 < extent[1]! + 1)
    .map((extent) => extent![2]! + Math.floor(offset / 4096) - extent![0]!);
  return block! * 4096;
}
