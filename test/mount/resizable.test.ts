/** Where a disk ends: with --resizable it grows, without it is full there. */

import fs from 'node:fs';
import { expect } from 'chai';
import { FALLOC_FL_ZERO_RANGE, fallocate } from '../../src/host/libc.js';
import { bitmapsOf, dirtyGranules } from '../support/bitmaps.js';
import { readField } from '../support/damage.js';
import { refusalOf, withFile } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  MiB,
  qemuImg,
  writeSteps,
} from '../support/images.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { keyOptions, mountReadOnly, mountWritable } from '../support/qcow2fs.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import { KINDS } from './space-kinds.js';

const SIZE = 4 * MiB;
const GROWTH = 5 * MiB;
const { O_RDWR, O_WRONLY } = fs.constants;
const DATA = patternBytes(5, 0, 130 * SECTOR_SIZE);

function sizeInHeader(image: Image): number {
  return Number(readField(imagePath(image), 'size'));
}

function readAt(disk: string, offset: number, length: number): Buffer {
  return withFile(disk, 'r', (fd) => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, offset));
  });
}

describe('a disk with --resizable', () => {
  const scratch = useScratch();

  interface Way {
    readonly name: string;
    grow(disk: string, from: number, to: number): void;
    readonly written?: true;
  }
  const resizing: readonly Way[] = [
    { name: 'truncate(2)', grow: (disk, _, to) => fs.truncateSync(disk, to) },
    { name: 'ftruncate(2)', grow: (disk, _, to) => withFile(disk, 'r+', (fd) => fs.ftruncateSync(fd, to)) },
    { name: 'fallocate(2)', grow: (disk, _, to) => withFile(disk, 'r+', (fd) => fallocate(fd, 0, 0, to)) },
    {
      name: 'fallocate(2) of zeros',
      grow: (disk, from, to) =>
        withFile(disk, 'r+', (fd) => fallocate(fd, FALLOC_FL_ZERO_RANGE, from + MiB, to - from - MiB)),
    },
  ];
  const [buffered, direct] = [O_RDWR, O_WRONLY].map(
    (flags): Way => ({
      name: `writes ${flags === O_RDWR ? 'through' : 'past'} the page cache`,
      grow: (disk, _, to) =>
        withFile(disk, flags, (fd) => void fs.writeSync(fd, DATA, 0, DATA.length, to - DATA.length)),
      written: true,
    }),
  ) as [Way, Way];

  for (const { name: kind, spec } of KINDS) {
    // All ways for the first kind of image; for the others one that only adds room, then one that writes there.
    const all = [...resizing, buffered, direct].map((way) => [way]);
    for (const ways of kind === KINDS[0]!.name ? all : [[resizing[0]!, direct]]) {
      it(`grows by ${ways.map(({ name }) => name).join(' and by ')}, and the new part is zeros: ${kind}`, () => {
        const dir = scratch.subdir();
        const image = createImage(dir, { size: SIZE, ...spec(dir) });
        writeSteps(image, 2, [{ do: 'data', offset: SIZE - 3 * 65536, length: 65536 }]);
        let expected = fs.readFileSync(convertToRaw(image));
        const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable', ...keyOptions(image)]);
        for (const { grow, written } of ways) {
          const [from, to] = [expected.length, expected.length + GROWTH];
          expected = Buffer.concat([expected, Buffer.alloc(GROWTH)]);
          if (written) DATA.copy(expected, to - DATA.length);
          grow(disk, from, to);
          expect(fs.statSync(disk).size).to.equal(to);
          expect(fs.readFileSync(disk).equals(expected), 'the mounted disk').to.equal(true);
        }
        unmount();
        checkImage(image);
        expect(sizeInHeader(image)).to.equal(expected.length);
        expect(fs.readFileSync(convertToRaw(image)).equals(expected), 'as QEMU sees it').to.equal(true);
        const again = mountReadOnly(imagePath(image), dir, keyOptions(image));
        expect(fs.readFileSync(again.disk).equals(expected), 'the disk mounted again').to.equal(true);
        again.unmount();
        fs.rmSync(dir, { recursive: true });
      });
    }
  }

  it('takes its persistent bitmaps along, which follow what all threads write', async () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE, clusterSize: 512 });
    qemuImg(dir, ['bitmap', '--add', '-g', '64k', image.name, 'backup']);
    const { disk, unmount } = mountWritable(imagePath(image), dir, ['--resizable', '--threads', '4']);
    // A longer table: each entry is for 256 MiB.
    fs.truncateSync(disk, 1024 * MiB);
    const places = Array.from({ length: 64 }, (_, i) => i * 16 * MiB + 65536);
    await Promise.all(
      places.map(async (place) => {
        const file = await fs.promises.open(disk, 'r+');
        await file.write(DATA, 0, SECTOR_SIZE, place);
        await file.datasync();
        await file.close();
      }),
    );
    unmount();
    checkImage(image);
    expect(bitmapsOf(image).map(({ flags }) => [...flags])).to.deep.equal([['auto']]);
    // The kernel writes whole pages, and here no more than one.
    expect(await dirtyGranules(image, 'backup', 65536)).to.deep.equal(places.map((place) => place / 65536));
  });

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
