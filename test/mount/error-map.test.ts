/** `mount -r --error-map`: reads everything readable of a damaged image, and records exactly what failed. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { hostOffset, patchL2, readL2, truncateImage } from '../support/damage.js';
import { DAMAGES, DISK_SIZE, FULL } from '../support/damaged-images.js';
import {
  convertToRaw,
  createImage,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  type Step,
  writeSteps,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import { mountOn, mountsAt, tryMount } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY } from '../support/users.js';
import { waitUntil } from '../support/wait.js';

const CLUSTER = 64 * KiB;
const TRANSPORTS = ['kernel', 'libfuse'];

/** Ranges of a mapfile: first byte, end and mark. */
function readMap(file: string): [start: number, end: number, mark: string][] {
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  const [, ...ranges] = lines.filter((line) => /^0x/.test(line)).map((line) => line.split(/ +/));
  return ranges.map(([at, length, mark]) => [Number(at), Number(at) + Number(length), mark!]);
}

function mapOf([start, end]: readonly [number, number]): [number, number, string][] {
  const parts: [number, number, string][] = [
    [0, start, '?'],
    [start, end, '-'],
    [end, DISK_SIZE, '?'],
  ];
  return parts.filter(([from, to]) => from < to);
}

// SECURITY.md: "`--error-map` records the ranges that failed."
describe('mount --error-map', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function makeImage(
    spec: ImageSpec = {},
    guest: readonly Step[] = FULL,
  ): { image: Image; expected: Buffer } {
    const image = createImage(scratch.subdir(), { size: DISK_SIZE, ...spec });
    writeSteps(image, 1, guest);
    return { image, expected: fs.readFileSync(convertToRaw(image)) };
  }

  function breakClusters(image: Image, ...clusters: number[]): void {
    for (const cluster of clusters) {
      patchL2(imagePath(image), cluster * CLUSTER, readL2(imagePath(image), cluster * CLUSTER) | 0x200n);
    }
  }

  for (const [index, { title, spec, guest, apply, lost }] of DAMAGES.entries()) {
    // damage.test.ts uses the other transport.
    for (const transport of lane([TRANSPORTS[1 - (index % 2)]!], TRANSPORTS)) {
      it(`records ${title}, and dd saves all else, with the ${transport} transport`, () => {
        const { image, expected } = makeImage(spec, guest);
        apply(imagePath(image));
        const map = path.join(image.dir, 'map');
        const args = ['--transport', transport, '--threads', String((index % 3) + 1), '--error-map', map];
        const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir(), args);
        expect(readMap(map)).to.deep.equal([[0, DISK_SIZE, '?']]);
        expected.fill(0, lost[0], lost[1]);
        // Buffered, and past the page cache where the transport can.
        for (const flags of [[], ...(transport === 'kernel' ? [['iflag=direct']] : [])]) {
          const copy = path.join(image.dir, 'copy');
          const dd = tryTool('dd', `if=${disk}`, `of=${copy}`, 'bs=4k', 'conv=noerror,sync', ...flags);
          expect(dd.stderr).to.match(/Input\/output error/);
          expect(fs.readFileSync(copy).equals(expected)).to.equal(true);
        }
        expectQcow2fs(['umount', mountpoint]);
        expect(readMap(map)).to.deep.equal(mapOf(lost));
      });
    }
  }

  for (const transport of ['kernel', 'libfuse']) {
    it(`records what was cut off, which reads as zeros, with the ${transport} transport`, () => {
      const { image } = makeImage();
      const file = imagePath(image);
      truncateImage(file, hostOffset(file, DISK_SIZE / 2));
      const expected = fs.readFileSync(convertToRaw(image));
      const map = path.join(image.dir, 'map');
      const { mountpoint, disk } = mountOn(defer, file, scratch.subdir(), [
        '--transport',
        transport,
        '--error-map',
        map,
      ]);
      expect(fs.readFileSync(disk).equals(expected)).to.equal(true);
      expectQcow2fs(['umount', mountpoint]);
      expect(readMap(map)).to.deep.equal(mapOf([DISK_SIZE / 2, DISK_SIZE]));
    });
  }

  it('saves every sector that can be read past the page cache, where clusters are smaller than pages', () => {
    const { image, expected } = makeImage({ clusterSize: 512 });
    const file = imagePath(image);
    const broken = [9, 11, 4096];
    for (const cluster of broken) patchL2(file, cluster * 512, readL2(file, cluster * 512) | (1n << 54n));
    const map = path.join(image.dir, 'map');
    const { mountpoint, disk } = mountOn(defer, file, scratch.subdir(), ['--error-map', map]);
    const copy = path.join(image.dir, 'copy');
    tryTool('dd', `if=${disk}`, `of=${copy}`, 'bs=512', 'conv=noerror,sync', 'iflag=direct');
    for (const cluster of broken) expected.fill(0, cluster * 512, (cluster + 1) * 512);
    expect(fs.readFileSync(copy).equals(expected)).to.equal(true);
    expectQcow2fs(['umount', mountpoint]);
    const lost = readMap(map).filter(([, , mark]) => mark === '-');
    expect(lost.map(([start, end]) => [start / 512, end / 512])).to.deep.equal(
      broken.map((at) => [at, at + 1]),
    );
  });

  it('is written soon after a read has failed, while the disk is mounted', async () => {
    const { image } = makeImage();
    breakClusters(image, 5, 6, 40);
    const map = path.join(image.dir, 'map');
    const args = ['--error-map', map, '--threads', '3'];
    const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir(), args);
    tryTool('dd', `if=${disk}`, 'of=/dev/null', 'bs=8M', 'iflag=direct');
    const expected = [
      [0, 5 * CLUSTER, '?'],
      [5 * CLUSTER, 7 * CLUSTER, '-'],
      [7 * CLUSTER, 40 * CLUSTER, '?'],
      [40 * CLUSTER, 41 * CLUSTER, '-'],
      [41 * CLUSTER, DISK_SIZE, '?'],
    ];
    await waitUntil('the map is written', () => readMap(map).length === expected.length);
    expect(readMap(map)).to.deep.equal(expected);
    expectQcow2fs(['umount', mountpoint]);
    expect(readMap(map)).to.deep.equal(expected);
    expect(fs.readdirSync(image.dir).filter((name) => name.startsWith('map'))).to.deep.equal(['map']);
  });

  it('is written in its directory, wherever that is moved, with owner and mode of the file that was there', () => {
    const { image } = makeImage();
    breakClusters(image, 3);
    const [place, moved] = [path.join(image.dir, 'maps'), path.join(image.dir, 'moved')];
    const map = path.join(place, 'map');
    fs.mkdirSync(place);
    fs.writeFileSync(map, '');
    fs.chmodSync(map, 0o600);
    fs.chownSync(map, NOBODY.uid, NOBODY.gid);
    const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir(), ['--error-map', map]);
    fs.renameSync(place, moved);
    fs.mkdirSync(place);
    fs.writeFileSync(map, 'of somebody else');
    expect(spawnSync('cat', [disk]).status).to.equal(1);
    expectQcow2fs(['umount', mountpoint]);
    expect(fs.readFileSync(map, 'utf8')).to.equal('of somebody else');
    expect(readMap(path.join(moved, 'map'))[1]).to.deep.equal([3 * CLUSTER, 4 * CLUSTER, '-']);
    const { uid, gid, mode } = fs.statSync(path.join(moved, 'map'));
    expect([uid, gid, mode & 0o777]).to.deep.equal([NOBODY.uid, NOBODY.gid, 0o600]);
  });

  it('can be given in a list of options, and relative to where the caller is', () => {
    const { image } = makeImage();
    breakClusters(image, 3);
    const mountpoint = scratch.subdir();
    const args = ['-o', 'ro,error-map=map', '--log', `${mountpoint}.log`, imagePath(image)];
    const { status } = tryMount(defer, args, mountpoint, { cwd: image.dir });
    expect(status).to.equal(0);
    expect(spawnSync('cat', [path.join(mountpoint, 'disk.raw')]).status).to.equal(1);
    expectQcow2fs(['umount', mountpoint]);
    expect(readMap(path.join(image.dir, 'map'))[1]).to.deep.equal([3 * CLUSTER, 4 * CLUSTER, '-']);
  });

  for (const [what, args, status, words] of [
    ['a disk that can be written', ['--error-map', 'MAP'], 2, ['--error-map', '-r']],
    ['an overlay', ['--overlay', 'temp', '--error-map', 'MAP'], 2, ['--error-map']],
    ['a map that cannot be made', ['-r', '--error-map', '/nowhere/map'], 3, ['/nowhere/map', 'ENOENT']],
    ['the image as its map', ['-r', '--error-map', 'IMAGE'], 3, ['no error map']],
  ] as const) {
    it(`refuses ${what} in one line, and mounts nothing`, () => {
      const { image } = makeImage();
      const file = imagePath(image);
      const before = fs.readFileSync(file);
      const mountpoint = scratch.subdir();
      const given = args.map((word) =>
        word === 'MAP' ? path.join(image.dir, 'map') : word === 'IMAGE' ? file : word,
      );
      const log = ['--log', `${mountpoint}.log`];
      const outcome = tryMount(defer, [...given, ...log, file], mountpoint);
      expect(outcome.status).to.equal(status);
      expect(outcome.stderr).to.match(/^qcow2fs: [^\n]+\n$/);
      for (const word of words) expect(outcome.stderr).to.contain(word);
      expect(mountsAt(mountpoint)).to.deep.equal([]);
      expect(fs.readFileSync(file).equals(before)).to.equal(true);
      expect(fs.existsSync(path.join(image.dir, 'map'))).to.equal(false);
    });
  }

  it('leaves no map behind when the disk cannot be mounted', () => {
    const { image } = makeImage();
    const file = path.join(scratch.subdir(), 'disk');
    fs.writeFileSync(file, '');
    const map = path.join(image.dir, 'map');
    // libfuse needs a directory.
    const args = [
      '-r',
      '--transport',
      'libfuse',
      '--error-map',
      map,
      '--log',
      `${file}.log`,
      imagePath(image),
    ];
    expect(tryMount(defer, args, file).status).to.equal(9);
    expect(fs.existsSync(map)).to.equal(false);
  });
});
