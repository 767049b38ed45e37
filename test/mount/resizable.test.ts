/** Where a disk ends: with --resizable it grows, without it is full there. Holes and zeros anywhere before. */

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
import {
  checkImage,
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { mountReadOnly, mountWritable } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import { bytesOnHost, keyOptions, refusalOf, tryTool, withFile } from './support.js';

const SIZE = 4 * MiB;
const NEW_SIZE = 9 * MiB;
const { O_RDWR, O_WRONLY } = fs.constants;
const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];
const DATA = patternBytes(5, 0, 130 * SECTOR_SIZE);

function sizeInHeader({ dir, name }: Image): number {
  return JSON.parse(qemuImg(dir, ['info', '--output=json', name]))['virtual-size'];
}

function readAt(disk: string, offset: number, length: number): Buffer {
  return withFile(disk, 'r', (fd) => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, offset));
  });
}

interface Kind {
  readonly name: string;
  readonly spec: (dir: string) => ImageSpec;
}

const KINDS: readonly Kind[] = [
  { name: 'a plain image', spec: () => ({}) },
  {
    name: 'a LUKS image with 512-byte clusters',
    spec: (dir) => ({ clusterSize: 512, secret: writeSecret(dir, 'open sesame'), encryption: LUKS }),
  },
  { name: 'an image with extended L2 entries', spec: () => ({ options: ['extended_l2=on'] }) },
  {
    name: 'an image with a raw external data file',
    spec: () => ({ options: ['data_file=data.raw', 'data_file_raw=on'] }),
  },
  {
    name: 'an overlay on a longer image',
    spec: (dir) => {
      const base = createImage(dir, { name: 'base.qcow2', size: 16 * MiB });
      writeSteps(base, 1, [{ do: 'data', offset: 0, length: 16 * MiB }]);
      return { backing: { file: 'base.qcow2', format: 'qcow2' } };
    },
  },
  {
    name: 'an overlay on a longer raw file',
    spec: (dir) => {
      createRaw(dir, 'base.raw', 16 * MiB, 3);
      return { backing: { file: 'base.raw', format: 'raw' } };
    },
  },
];

describe('a disk with --resizable', () => {
  const scratch = useScratch();

  const ways: readonly { name: string; grow: (disk: string) => void; written?: true }[] = [
    { name: 'truncate(2)', grow: (disk) => fs.truncateSync(disk, NEW_SIZE) },
    { name: 'ftruncate(2)', grow: (disk) => withFile(disk, 'r+', (fd) => fs.ftruncateSync(fd, NEW_SIZE)) },
    { name: 'fallocate(2)', grow: (disk) => withFile(disk, 'r+', (fd) => fallocate(fd, 0, 0, NEW_SIZE)) },
    {
      name: 'fallocate(2) of zeros',
      grow: (disk) =>
        withFile(disk, 'r+', (fd) => fallocate(fd, FALLOC_FL_ZERO_RANGE, MiB * 5, NEW_SIZE - MiB * 5)),
    },
    ...[O_RDWR, O_WRONLY].map((flags) => ({
      name: `writes ${flags === O_RDWR ? 'through' : 'past'} the page cache`,
      grow: (disk: string) =>
        withFile(disk, flags, (fd) => void fs.writeSync(fd, DATA, 0, DATA.length, NEW_SIZE - DATA.length)),
      written: true as const,
    })),
  ];

  for (const { name: kind, spec } of KINDS) {
    // All ways in the first kind of image; then one that only makes room, and one that needs it.
    for (const { name, grow, written } of kind === KINDS[0]!.name ? ways : [ways[0]!, ways.at(-1)!]) {
      it(`grows by ${name}, and the new part is zeros: ${kind}`, () => {
        const dir = scratch.subdir();
        const image = createImage(dir, { size: SIZE, ...spec(dir) });
        writeSteps(image, 2, [{ do: 'data', offset: SIZE - 3 * 65536, length: 65536 }]);
        const expected = Buffer.concat([fs.readFileSync(convertToRaw(image)), Buffer.alloc(NEW_SIZE - SIZE)]);
        if (written) DATA.copy(expected, NEW_SIZE - DATA.length);
        const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable', ...keyOptions(image)]);
        grow(disk);
        expect(fs.statSync(disk).size).to.equal(NEW_SIZE);
        expect(fs.readFileSync(disk).equals(expected), 'the mounted disk').to.equal(true);
        unmount();
        checkImage(image);
        expect(sizeInHeader(image)).to.equal(NEW_SIZE);
        expect(fs.readFileSync(convertToRaw(image)).equals(expected), 'as QEMU sees it').to.equal(true);
        const again = mountReadOnly(imagePath(image), dir, keyOptions(image));
        expect(fs.readFileSync(again.disk).equals(expected), 'the disk mounted again').to.equal(true);
        again.unmount();
        fs.rmSync(dir, { recursive: true });
      });
    }
  }

  it('ends at a whole sector', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE });
    const first = mountWritable(imagePath(image), dir, ['--resizable']);
    withFile(first.disk, O_WRONLY, (fd) => fs.writeSync(fd, Buffer.from('x'), 0, 1, SIZE + 700));
    first.unmount();
    expect(sizeInHeader(image)).to.equal(SIZE + 1024);
    const second = mountWritable(imagePath(image), dir, ['--resizable']);
    expect(fs.statSync(second.disk).size).to.equal(SIZE + 1024);
    fs.truncateSync(second.disk, SIZE + 1025);
    second.unmount();
    expect(sizeInHeader(image)).to.equal(SIZE + 1536);
    checkImage(image);
    const raw = fs.readFileSync(convertToRaw(image));
    expect(raw[SIZE + 700]).to.equal('x'.charCodeAt(0));
    expect(raw.filter((byte) => byte !== 0)).to.have.length(1);
  });

  it('grows again and again, also far beyond one L1 entry', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE, clusterSize: 512 });
    const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable']);
    const places = [SIZE, 64 * MiB, 65 * MiB + SECTOR_SIZE, 700 * MiB, 2048 * MiB];
    for (const place of places) {
      withFile(disk, O_WRONLY, (fd) => fs.writeSync(fd, DATA, 0, DATA.length, place));
      expect(fs.statSync(disk).size).to.equal(place + DATA.length);
    }
    for (const place of places)
      expect(readAt(disk, place, DATA.length).equals(DATA), `at ${place}`).to.equal(true);
    unmount();
    checkImage(image);
    const again = mountReadOnly(imagePath(image), dir);
    for (const place of places) {
      expect(readAt(again.disk, place, DATA.length).equals(DATA), `at ${place}`).to.equal(true);
    }
    again.unmount();
  });

  it('does not shrink', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE });
    const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable']);
    expect(refusalOf(() => fs.truncateSync(disk, SIZE - SECTOR_SIZE))).to.equal('EPERM');
    expect(refusalOf(() => fs.truncateSync(disk))).to.equal('EPERM');
    expect(refusalOf(() => fs.closeSync(fs.openSync(disk, 'w')))).to.equal('EPERM');
    expect(fs.statSync(disk).size).to.equal(SIZE);
    unmount();
    expect(sizeInHeader(image)).to.equal(SIZE);
  });

  it('takes no size that the image cannot describe', () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE, clusterSize: 512 });
    const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable']);
    expect(refusalOf(() => fs.truncateSync(disk, 2 ** 50))).to.equal('EFBIG');
    expect(
      refusalOf(() => withFile(disk, O_WRONLY, (fd) => fs.writeSync(fd, DATA, 0, 512, 2 ** 50))),
    ).to.equal('EFBIG');
    expect(fs.statSync(disk).size).to.equal(SIZE);
    unmount();
    expect(sizeInHeader(image)).to.equal(SIZE);
    checkImage(image);
  });
});

describe('a disk without --resizable', () => {
  const scratch = useScratch();

  for (const transport of ['kernel', 'libfuse']) {
    describe(`with the ${transport} transport`, () => {
      let image: Image;
      let disk: string;
      let unmount: () => void;
      beforeEach(() => {
        const dir = scratch.subdir();
        image = createImage(dir, { size: SIZE });
        ({ disk, unmount } = mountWritable(imagePath(image), dir, ['--transport', transport]));
      });

      /** The disk is as large as ever, and holds this at its end. */
      function expectEnd(tail: Buffer): void {
        expect(fs.statSync(disk).size).to.equal(SIZE);
        expect(readAt(disk, SIZE - tail.length, tail.length + MiB).equals(tail)).to.equal(true);
        unmount();
        expect(sizeInHeader(image)).to.equal(SIZE);
        checkImage(image);
        const raw = fs.readFileSync(convertToRaw(image));
        expect(raw.subarray(SIZE - tail.length).equals(tail)).to.equal(true);
      }

      it('is full at its end for who only writes', () => {
        withFile(disk, O_WRONLY, (fd) => {
          expect(refusalOf(() => fs.writeSync(fd, DATA, 0, DATA.length, SIZE))).to.equal('ENOSPC');
          expect(refusalOf(() => fs.writeSync(fd, DATA, 0, DATA.length, SIZE + 5 * MiB))).to.equal('ENOSPC');
          expect(fs.writeSync(fd, DATA, 0, DATA.length, SIZE - 3 * SECTOR_SIZE)).to.equal(3 * SECTOR_SIZE);
          fs.fsyncSync(fd);
        });
        expectEnd(DATA.subarray(0, 3 * SECTOR_SIZE));
      });

      it('ends a dd of zeros with ENOSPC', () => {
        withFile(disk, 'r+', (fd) => fs.writeSync(fd, DATA, 0, DATA.length, SIZE - DATA.length));
        const { status, stderr } = tryTool('dd', 'if=/dev/zero', `of=${disk}`, 'bs=1M', 'conv=notrunc');
        expect(stderr).to.contain('No space left on device');
        expect(stderr).to.contain(`${SIZE} bytes`);
        expect(status).to.equal(1);
        expectEnd(Buffer.alloc(DATA.length));
      });

      it('does not change its size', () => {
        expect(refusalOf(() => fs.truncateSync(disk, SIZE + SECTOR_SIZE))).to.equal('EPERM');
        expect(refusalOf(() => fs.truncateSync(disk, SIZE - SECTOR_SIZE))).to.equal('EPERM');
        expect(refusalOf(() => fs.truncateSync(disk))).to.equal('EPERM');
        expect(refusalOf(() => fs.closeSync(fs.openSync(disk, 'w')))).to.equal('EPERM');
        withFile(disk, 'r+', (fd) => {
          expect(refusalOf(() => fs.ftruncateSync(fd, SIZE * 2))).to.equal('EPERM');
          expect(refusalOf(() => fs.ftruncateSync(fd, SIZE))).to.equal('nothing');
          const beyond = refusalOf(() => fallocate(fd, 0, SIZE - MiB, 2 * MiB));
          expect(beyond).to.match(transport === 'kernel' ? /^EFBIG$/ : /^(EOPNOTSUPP|ENOTSUP)$/);
        });
        expectEnd(Buffer.alloc(MiB));
      });

      it('takes back what went past its end through the page cache, and says so at fsync', async () => {
        withFile(disk, O_RDWR, (fd) => {
          const attempt = (): void => {
            fs.writeSync(fd, DATA, 0, DATA.length, SIZE - 2 * SECTOR_SIZE);
            fs.fsyncSync(fd);
          };
          // Without a page cache the write is short, as at the end of a device.
          expect(refusalOf(attempt)).to.equal(transport === 'kernel' ? 'ENOSPC' : 'nothing');
        });
        await waitUntil('the disk has its size again', () => fs.statSync(disk).size === SIZE);
        withFile(disk, O_RDWR, (fd) => {
          // The last page may have gone with the rest: what the disk has room for is written on its own.
          fs.writeSync(fd, DATA, 0, 2 * SECTOR_SIZE, SIZE - 2 * SECTOR_SIZE);
          fs.fsyncSync(fd);
        });
        expectEnd(DATA.subarray(0, 2 * SECTOR_SIZE));
      });
    });
  }
});

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
    const image = createImage(dir, { size: SIZE, options: ['data_file=data.raw', 'data_file_raw=on'] });
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
