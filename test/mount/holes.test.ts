/** Holes and zeros anywhere in a disk. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
} from '../../src/host/libc.js';
import { bytesOnHost, withFile } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  createRaw,
  imagePath,
  KiB,
  MiB,
  writeSteps,
} from '../support/images.js';
import { patternBytes } from '../support/pattern.js';
import { keyOptions, mountWritable } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { KINDS, type Kind } from './space-kinds.js';

const SIZE = 4 * MiB;

describe('holes and zeros', () => {
  const scratch = useScratch();
  const CLUSTER = 64 * KiB;
  const LENGTH = 48 * CLUSTER;

  /** From and to: whole clusters, parts, single bytes, across everything, nothing aligned, past the end. */
  const RANGES: readonly (readonly [from: number, to: number])[] = [
    [0, CLUSTER],
    [2 * CLUSTER, 5 * CLUSTER],
    [6 * CLUSTER + 1, 6 * CLUSTER + 2],
    [7 * CLUSTER - 1, 7 * CLUSTER + 1],
    [8 * CLUSTER + 511, 11 * CLUSTER - 513],
    [12 * CLUSTER + 512, 12 * CLUSTER + 4096],
    [13 * CLUSTER + 3000, 13 * CLUSTER + 9000],
    [14 * CLUSTER, 14 * CLUSTER + 2048 * 5],
    [17 * CLUSTER + 2048, 18 * CLUSTER],
    [20 * CLUSTER + 77, 23 * CLUSTER],
    [25 * CLUSTER, 28 * CLUSTER + 77],
    [LENGTH - 3 * CLUSTER - 5, LENGTH],
  ];
  const MODES = [
    { name: 'holes', mode: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
    { name: 'zeros', mode: FALLOC_FL_ZERO_RANGE },
    { name: 'zeros that keep the size', mode: FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
  ];
  const OTHERS: readonly Kind[] = [
    {
      name: 'a version 2 overlay',
      spec: (dir) => {
        createRaw(dir, 'base.raw', LENGTH, 3);
        return { version: 2, backing: { file: 'base.raw', format: 'raw' } };
      },
    },
    { name: 'an image with 2 MiB clusters', spec: () => ({ clusterSize: 2 * MiB }) },
  ];

  for (const { name: kind, spec } of [...KINDS, ...OTHERS]) {
    for (const { name, mode } of kind === KINDS[0]!.name ? MODES : MODES.slice(0, 2)) {
      it(`are what any range of bytes can become: ${name} in ${kind}`, () => {
        const dir = scratch.subdir();
        const image = createImage(dir, { size: LENGTH, ...spec(dir) });
        writeSteps(image, 2, [{ do: 'data', offset: 0, length: LENGTH - 8 * CLUSTER }]);
        const expected = fs.readFileSync(convertToRaw(image));
        const { disk, unmount } = mountWritable(imagePath(image), dir, keyOptions(image));
        withFile(disk, 'r+', (fd) => {
          for (const [from, to] of RANGES) {
            // What was just written and waits in the page cache goes, too.
            fs.writeSync(fd, Buffer.alloc(100, 'cached'), 0, Math.min(100, to - from), from);
            fallocate(fd, mode, from, to - from);
            expected.fill(0, from, to);
          }
          expect(fs.readFileSync(disk).equals(expected), 'the mounted disk').to.equal(true);
        });
        expect(fs.statSync(disk).size).to.equal(LENGTH);
        unmount();
        checkImage(image);
        expect(fs.readFileSync(convertToRaw(image)).equals(expected), 'as QEMU sees it').to.equal(true);
        fs.rmSync(dir, { recursive: true });
      });
    }
  }

  for (const [name, options] of [
    ['the image', []],
    ['the external data file', ['data_file=data.raw']],
    ['the raw external data file', ['data_file=data.raw', 'data_file_raw=on']],
  ] as const) {
    it(`give their space back: holes appear in ${name}`, () => {
      const dir = scratch.subdir();
      const image = createImage(dir, { size: LENGTH, options });
      const { disk, unmount } = mountWritable(imagePath(image), dir);
      const file = options.length === 0 ? imagePath(image) : path.join(dir, 'data.raw');
      withFile(disk, 'r+', (fd) => {
        fs.writeSync(fd, patternBytes(1, 0, LENGTH));
        fs.fsyncSync(fd);
        const full = bytesOnHost(file);
        expect(full).to.be.at.least(LENGTH);
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CLUSTER, LENGTH - 2 * CLUSTER);
        fs.fsyncSync(fd);
        // The host may need a block of its own to describe the holes.
        expect(full - bytesOnHost(file)).to.be.at.least(LENGTH - 3 * CLUSTER);
        expect(fs.fstatSync(fd).size).to.equal(LENGTH);
        // The same space serves what comes next.
        fs.writeSync(fd, patternBytes(2, 0, LENGTH), 0, LENGTH, 0);
        fs.fsyncSync(fd);
        expect(bytesOnHost(file)).to.be.at.most(full + CLUSTER);
      });
      unmount();
      checkImage(image);
    });
  }

  it('are written where the host of a raw external data file knows no holes', () => {
    const dir = scratch.subdir();
    // libfuse 2 has no fallocate(2), so a disk that it serves is such a host.
    const outer = createImage(dir, { name: 'outer.qcow2', size: SIZE });
    const host = mountWritable(imagePath(outer), dir, ['--transport', 'libfuse']);
    // Such a cluster takes several writes.
    const image = createImage(dir, {
      size: SIZE,
      clusterSize: MiB,
      options: ['data_file=data.raw', 'data_file_raw=on'],
    });
    fs.rmSync(path.join(dir, 'data.raw'));
    fs.symlinkSync(host.disk, path.join(dir, 'data.raw'));
    const { disk, unmount } = mountWritable(imagePath(image), dir);
    const expected = patternBytes(1, 0, SIZE);
    withFile(disk, 'r+', (fd) => {
      fs.writeSync(fd, expected);
      fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 12345, MiB);
      fallocate(fd, FALLOC_FL_ZERO_RANGE, 2 * MiB, MiB);
    });
    expected.fill(0, 12345, 12345 + MiB).fill(0, 2 * MiB, 3 * MiB);
    expect(fs.readFileSync(disk).equals(expected), 'the disk').to.equal(true);
    unmount();
    expect(fs.readFileSync(host.disk).equals(expected), 'the data file').to.equal(true);
    host.unmount();
  });

  it('can be made by fallocate(1), and beyond the end they change nothing', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: SIZE }]);
    const { disk, unmount } = mountWritable(imagePath(image), dir);
    const expected = fs.readFileSync(disk);
    const call = (...args: string[]): number | null => spawnSync('fallocate', [...args, disk]).status;
    expect(call('--punch-hole', '--offset', '12345', '--length', '100000')).to.equal(0);
    expect(call('--zero-range', '--keep-size', '--offset', '999999', '--length', '1234567')).to.equal(0);
    expect(call('--punch-hole', '--offset', String(SIZE - 10), '--length', '9MiB')).to.equal(0);
    expected
      .fill(0, 12345, 112345)
      .fill(0, 999999, 999999 + 1234567)
      .fill(0, SIZE - 10);
    expect(fs.readFileSync(disk).equals(expected)).to.equal(true);
    expect(call('--length', '1MiB')).to.not.equal(0);
    expect(call('--collapse-range', '--offset', '0', '--length', '65536')).to.not.equal(0);
    unmount();
    checkImage(image);
    expect(fs.readFileSync(convertToRaw(image)).equals(expected)).to.equal(true);
  });
});
