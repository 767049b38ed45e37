/** Where a disk can be mounted: directories, regular files, the image itself, several places at once. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mountTable } from '../../src/host/mounts.js';
import { useCleanUp } from '../support/clean-up.js';
import { sha256, withFile } from '../support/files.js';
import { convertToRaw, createImage, imagePath, MiB, writeSteps } from '../support/images.js';
import { daemonOf, endMount, logLines, mountOn, mountsAt, mountWritableOn } from '../support/mounts.js';
import { BIN, expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

describe('a mountpoint', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  let image: string;
  let expected: string;

  before(() => {
    const made = createImage(dir, { size: 3 * MiB + 512 });
    writeSteps(made, 1, [{ do: 'data', offset: 512, length: 2 * MiB }]);
    image = imagePath(made);
    expected = sha256(convertToRaw(made));
  });

  function listed(mountpoint: string): Record<string, unknown> | undefined {
    const all = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
    return all.find((entry) => entry['mountpoint'] === mountpoint);
  }

  function freshFile(name: string, content = ''): string {
    const file = path.join(scratch.subdir(), name);
    fs.writeFileSync(file, content);
    return file;
  }

  it('that is a directory shows one file, disk.raw', () => {
    const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
    expect(fs.readdirSync(mountpoint)).to.deep.equal(['disk.raw']);
    expect(sha256(disk)).to.equal(expected);
    expect(fs.existsSync(path.join(mountpoint, 'other'))).to.equal(false);
  });

  it('shows the file under the name that --name gives', () => {
    const { mountpoint } = mountOn(defer, image, scratch.subdir(), ['--name', 'Größe, 2.img']);
    expect(fs.readdirSync(mountpoint)).to.deep.equal(['Größe, 2.img']);
    expect(sha256(path.join(mountpoint, 'Größe, 2.img'))).to.equal(expected);
  });

  it('that is a regular file becomes the disk, and the file again afterwards', () => {
    const file = freshFile('vm.raw', 'what was there before');
    mountOn(defer, image, file);
    expect(fs.statSync(file).size).to.equal(3 * MiB + 512);
    expect(sha256(file)).to.equal(expected);
    expect(listed(file)).to.include({ disk: file, image, state: 'mounted', size: 3 * MiB + 512 });
    expectQcow2fs(['umount', file]);
    expect(fs.readFileSync(file, 'utf8')).to.equal('what was there before');
  });

  it('that is a regular file becomes a disk that can be written, through the page cache, too', () => {
    for (const flags of ['r+', fs.constants.O_WRONLY]) {
      const file = freshFile('vm.raw');
      const copy = path.join(scratch.subdir(), 'vm.qcow2');
      fs.copyFileSync(image, copy);
      fs.utimesSync(copy, 1e9, 1e9);
      mountWritableOn(defer, copy, file);
      expect(fs.statSync(file)).to.include({ size: 3 * MiB + 512, mtimeMs: 1e12 });
      expect(sha256(file)).to.equal(expected);
      withFile(file, flags, (fd) => fs.writeSync(fd, 'at the end', 3 * MiB));
      expectQcow2fs(['umount', file]);
      expect(fs.readFileSync(file, 'utf8')).to.equal('');
      const raw = fs.readFileSync(
        convertToRaw({ dir: path.dirname(copy), name: 'vm.qcow2', openOptions: [] }),
      );
      expect(raw.toString('latin1', 3 * MiB, 3 * MiB + 10)).to.equal('at the end');
      expect(raw.length).to.equal(3 * MiB + 512);
    }
  });

  it('can be the image itself', () => {
    const copy = path.join(scratch.subdir(), 'vm.qcow2');
    fs.copyFileSync(image, copy);
    const before = sha256(copy);
    mountOn(defer, copy, copy);
    expect(sha256(copy)).to.equal(expected);
    expect(listed(copy)).to.include({ disk: copy, image: copy });
    expectQcow2fs(['umount', copy]);
    expect(sha256(copy)).to.equal(before);
  });

  it('may be given by a relative name and through a symbolic link', () => {
    const place = scratch.subdir();
    fs.mkdirSync(path.join(place, 'real'));
    fs.symlinkSync('real', path.join(place, 'link'));
    fs.symlinkSync(image, path.join(place, 'image'));
    const log = path.join(place, 'log');
    const real = path.join(place, 'real');
    mountOn(defer, './image', real, [], { cwd: place });
    expect(sha256(path.join(place, 'link/disk.raw'))).to.equal(expected);
    expectQcow2fs(['umount', 'link'], { cwd: place });
    expect(mountsAt(place)).to.deep.equal([]);
    expectQcow2fs(['mount', '-r', '--log', log, 'image', 'link/../link'], { cwd: place });
    expect(mountsAt(place)).to.deep.equal([real]);
    expectQcow2fs(['umount', 'real/'], { cwd: place });
  });

  it('and an image may have blanks, commas, backslashes, quotes and foreign letters in their names', () => {
    for (const transport of ['kernel', 'libfuse']) {
      const place = scratch.subdir();
      const odd = path.join(place, 'an, "image" \\ größe 基.qcow2');
      const mountpoint = path.join(place, "mnt, it's \\ größe 基");
      fs.copyFileSync(image, odd);
      fs.mkdirSync(mountpoint);
      const { disk } = mountOn(() => {}, odd, mountpoint, ['--transport', transport]);
      try {
        expect(sha256(disk)).to.equal(expected);
        expect(listed(mountpoint)).to.include({ image: odd, disk, transport });
      } finally {
        expectQcow2fs(['umount', mountpoint]);
      }
    }
  });

  it('can have a second disk of the same image beside it', () => {
    const mounts = [1, 2].map(() => mountOn(defer, image, scratch.subdir()));
    for (const { disk } of mounts) expect(sha256(disk)).to.equal(expected);
    expect(daemonOf(mounts[0]!.mountpoint)).to.not.equal(daemonOf(mounts[1]!.mountpoint));
    expectQcow2fs(['umount', mounts[0]!.mountpoint]);
    expect(sha256(mounts[1]!.disk)).to.equal(expected);
  });

  it('can be one of many at once', () => {
    const mounts = [1, 2, 3, 4, 5, 6].map((index) => {
      const made = createImage(scratch.subdir(), { size: index * MiB });
      writeSteps(made, index, [{ do: 'data', offset: 0, length: MiB }]);
      return { expected: sha256(convertToRaw(made)), ...mountOn(defer, imagePath(made), scratch.subdir()) };
    });
    for (const mount of mounts) expect(sha256(mount.disk)).to.equal(mount.expected);
    for (const { mountpoint } of mounts.toReversed()) expectQcow2fs(['umount', mountpoint]);
    for (const { mountpoint } of mounts) expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
  });

  it('takes one of several disks that are mounted there at the same time', async () => {
    const mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
    const args = ['mount', '-r', '--log', `${mountpoint}.log`, image, mountpoint];
    const outcomes = await Promise.all(
      [0, 1, 2].map(async () => {
        const command = spawn(process.execPath, [BIN, ...args], { stdio: 'ignore' });
        const [status] = await once(command, 'exit');
        return status as number;
      }),
    );
    expect(outcomes.sort()).to.deep.equal([0, 9, 9]);
    expect(mountsAt(mountpoint)).to.have.length(1);
    expectQcow2fs(['umount', mountpoint]);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
  });

  it('is read ahead by whole requests when root mounts', () => {
    const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
    fs.readFileSync(disk);
    const { device } = mountTable().find((entry) => entry.mountpoint === mountpoint)!;
    expect(fs.readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8')).to.equal('1024\n');
  });

  it('can be mounted on again after its unmounting, many times', () => {
    const mountpoint = scratch.subdir();
    for (let round = 0; round < 3; round++) {
      const { disk } = mountOn(defer, image, mountpoint);
      expect(sha256(disk)).to.equal(expected);
      expectQcow2fs(['umount', mountpoint]);
    }
  });

  it('is named in the log when it is mounted and when it is unmounted', () => {
    const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir());
    const mounted = `${image}: mounted on ${disk}, read-only`;
    expect(logLines(log)).to.deep.equal([mounted]);
    expectQcow2fs(['umount', mountpoint]);
    expect(logLines(log)).to.deep.equal([mounted, `${image}: unmounted`]);
  });

  it('that is a file is refused by the libfuse transport, which needs a directory', () => {
    const file = freshFile('vm.raw');
    const { status, stderr } = qcow2fs(['mount', '-r', '--transport', 'libfuse', image, file]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*needs a directory[^\n]*\n$/);
    expect(status).to.equal(9);
    expect(mountsAt(file)).to.deep.equal([]);
  });
});
