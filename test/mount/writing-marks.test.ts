/** What an image says of itself in its header, before and after it is mounted for writing. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { patchField, readField } from '../support/damage.js';
import { sha256, withFile } from '../support/files.js';
import {
  addBitmap,
  checkImage,
  convertToRaw,
  createImage,
  expectNoCorruption,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  writeAndCrash,
  writeSteps,
} from '../support/images.js';
import { daemonOf, endMount, isRunning, mountWritableOn, tryMount } from '../support/mounts.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { mountReadOnly, mountWritable } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, useOrdinaryUser } from '../support/users.js';
import { waitUntil } from '../support/wait.js';

const DIRTY = 1n;
const CORRUPT = 2n;
const UNKNOWN = 1n << 63n;
const DATA = patternBytes(3, 0, 100 * SECTOR_SIZE);

function write(disk: string): void {
  withFile(disk, 'r+', (fd) => fs.writeSync(fd, DATA, 0, DATA.length, MiB));
}

function infoOf({ dir, name }: Image): Record<string, unknown> {
  const info = JSON.parse(qemuImg(dir, ['info', '--output=json', name]));
  return info['format-specific'].data;
}

describe('an image that is mounted for writing', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  let image: Image;
  let file: string;

  beforeEach(() => {
    image = createImage(scratch.subdir(), { size: 4 * MiB, clusterSize: 4 * KiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 2 * MiB }]);
    file = imagePath(image);
  });

  it('no longer claims what we do not know, and keeps claiming it when mounted with -r', () => {
    patchField(file, 'autoclearFeatures', UNKNOWN);
    const before = sha256(file);
    mountReadOnly(file, image.dir).unmount();
    expect(sha256(file)).to.equal(before);
    const { disk, unmount } = mountWritable(file, image.dir);
    expect(readField(file, 'autoclearFeatures')).to.equal(0n);
    write(disk);
    unmount();
    expect(readField(file, 'autoclearFeatures')).to.equal(0n);
    checkImage(image);
  });

  it('is repaired when its last writer died, and not when mounted with -r', () => {
    const dir = scratch.subdir();
    image = createImage(dir, { size: 8 * MiB, options: ['lazy_refcounts=on'] });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 2 * MiB }]);
    file = imagePath(image);
    writeAndCrash(image, 2, { do: 'data', offset: 3 * MiB + SECTOR_SIZE, length: 900 * KiB });
    expect(readField(file, 'incompatibleFeatures') & DIRTY).to.equal(DIRTY);
    expect(() => checkImage(image)).to.throw(/errors were found|Could not open|ERROR|corrupt/i);
    const before = sha256(file);
    const reader = mountReadOnly(file, dir);
    const expected = fs.readFileSync(reader.disk);
    reader.unmount();
    expect(sha256(file)).to.equal(before);

    const { disk, unmount } = mountWritable(file, dir);
    expect(fs.readFileSync(disk).equals(expected)).to.equal(true);
    withFile(disk, 'r+', (fd) => fs.writeSync(fd, DATA, 0, DATA.length, 6 * MiB));
    DATA.copy(expected, 6 * MiB);
    unmount();
    expect(readField(file, 'incompatibleFeatures') & DIRTY).to.equal(0n);
    checkImage(image);
    expect(fs.readFileSync(convertToRaw(image)).equals(expected)).to.equal(true);
  });

  it('is refused and stays as it is when it is marked corrupt; -r shows it', () => {
    patchField(file, 'incompatibleFeatures', CORRUPT);
    const before = sha256(file);
    const { status, stderr } = tryMount(defer, [file], scratch.subdir());
    expect(stderr).to.match(/^qcow2fs: [^\n]*corrupt[^\n]*-r\n$/);
    expect(stderr).to.contain(file);
    expect(status).to.equal(4);
    const { disk, unmount } = mountReadOnly(file, image.dir);
    expect(
      fs
        .readFileSync(disk)
        .subarray(0, 2 * MiB)
        .equals(patternBytes(1, 0, 2 * MiB)),
    ).to.equal(true);
    unmount();
    expect(sha256(file)).to.equal(before);
  });

  it('is not changed by a byte when nothing is written', () => {
    addBitmap(image, 'backup');
    const before = sha256(file);
    const { disk, unmount } = mountWritable(file, image.dir);
    fs.readFileSync(disk);
    withFile(disk, 'r+', fs.fsyncSync);
    unmount();
    expect(sha256(file)).to.equal(before);
  });

  it('has valid bitmaps when nothing was written', () => {
    addBitmap(image, 'backup');
    mountWritable(file, image.dir).unmount();
    const [bitmap] = infoOf(image)['bitmaps'] as { flags: string[] }[];
    expect(bitmap?.flags).to.deep.equal(['auto']);
    checkImage(image);
  });

  /** What a bitmap calls changed, asked of QEMU: begin and end of each range. */
  function changedRanges({ dir, name }: Image, bitmap: string): number[][] {
    // In a directory of its own, for the path of a socket must be short.
    const socket = path.join(scratch.subdir(), 's');
    run('qemu-nbd', ['-r', '-f', 'qcow2', '-B', bitmap, '-k', socket, '--fork', path.join(dir, name)]);
    const server = `driver=nbd,server.type=unix,server.path=${socket}`;
    const map = JSON.parse(
      qemuImg(dir, [
        ...['map', '--output=json', '--image-opts'],
        `${server},x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}`,
      ]),
    ) as { start: number; length: number; data: boolean }[];
    // QEMU shows as holes what the bitmap calls dirty.
    return map.filter(({ data }) => !data).map(({ start, length }) => [start, start + length]);
  }

  it('has bitmaps that know what was written', () => {
    addBitmap(image, 'backup');
    const { disk, unmount } = mountWritable(file, image.dir);
    write(disk);
    unmount();
    checkImage(image);
    const [bitmap] = infoOf(image)['bitmaps'] as { flags: string[] }[];
    expect(bitmap?.flags).to.deep.equal(['auto']);
    const ranges = changedRanges(image, 'backup');
    const inside = ([from, to]: number[]): boolean => from! <= MiB && to! >= MiB + DATA.length;
    expect(ranges.some(inside), JSON.stringify(ranges)).to.equal(true);
    expect(ranges).to.have.length(1);
  });

  it('has bitmaps that nobody believes when its writer was killed', async () => {
    addBitmap(image, 'backup');
    const mountpoint = scratch.subdir();
    const { disk } = mountWritableOn(defer, file, mountpoint);
    write(disk);
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGKILL');
    await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
    const [bitmap] = infoOf(image)['bitmaps'] as { flags: string[] }[];
    expect(bitmap?.flags).to.contain('in-use');
    expectNoCorruption(image);
    const raw = fs.readFileSync(convertToRaw(image));
    expect(raw.subarray(MiB, MiB + DATA.length).equals(DATA)).to.equal(true);
  });
});

describe('options that contradict each other', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const options of [
    ['-r', '--overlay', 'x.qcow2'],
    ['-r', '--overlay', 'temp'],
    ['-r', '--resizable'],
    ['--force-share'],
    ['--force-share', '--overlay', 'temp'],
    ['--snapshot', 'x', '--overlay', 'temp'],
    ['--snapshot', 'x', '--resizable'],
    ['-o', 'ro,resizable'],
    ['-o', 'force-share'],
  ]) {
    it(`are refused in one line: ${options.join(' ')}`, () => {
      const dir = scratch.subdir();
      const image = createImage(dir, { size: MiB });
      const before = sha256(imagePath(image));
      const { status, stdout, stderr } = tryMount(defer, [...options, imagePath(image)], scratch.subdir(), {
        cwd: dir,
      });
      expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
      expect(stdout).to.equal('');
      expect(status).to.equal(2);
      expect(sha256(imagePath(image))).to.equal(before);
      expect(fs.readdirSync(dir)).to.deep.equal(['image.qcow2']);
    });
  }
});

describe('an image that a user may not write', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  const asUser = useOrdinaryUser(home);

  it('is refused with a hint at -r, which works', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: MiB });
    fs.chmodSync(imagePath(image), 0o444);
    fs.chmodSync(dir, 0o755);
    const mountpoint = path.join(home, 'mnt');
    fs.mkdirSync(mountpoint);
    fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
    defer(() => endMount(mountpoint));
    const { status, stderr, stdout } = asUser(['mount', imagePath(image), mountpoint]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*mount it with -r, [^\n]*\n$/);
    expect(stdout).to.equal('');
    expect(status).to.equal(3);
    expect(asUser(['mount', '-r', imagePath(image), mountpoint]).status).to.equal(0);
    expect(asUser(['umount', mountpoint]).status).to.equal(0);
  });
});
