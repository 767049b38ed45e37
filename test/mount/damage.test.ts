/** Damage inside an image: an I/O error for exactly its range, a line in the log, and everything else as it was. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  hostOffset,
  l2EntryOffset,
  patchBytes,
  patchL1,
  patchL2,
  patchSubclusterBitmap,
  readL1,
  readL2,
  truncateImage,
} from '../support/damage.js';
import {
  convertToRaw,
  createImage,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  type Step,
  writeSteps,
} from '../support/images.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { logLines, mountOn, sha256, tryTool, useCleanUp } from './support.js';

const SIZE = 8 * MiB;
const GRAIN = 4 * KiB;
/** Bits of an L1 or L2 entry. */
const COPIED = 1n << 63n;
const OUTSIDE = 1n << 40n;
const COMPRESSED_OFFSET_BITS = 54n;

interface Damage {
  readonly title: string;
  readonly spec?: ImageSpec;
  readonly guest?: readonly Step[];
  readonly apply: (image: string) => void;
  /** What must fail: guest bytes from start to end. */
  readonly lost: readonly [start: number, end: number];
  /** What the line in the log must contain. */
  readonly log: readonly string[];
}

const FULL: readonly Step[] = [{ do: 'data', offset: 0, length: SIZE }];
const PACKED: readonly Step[] = [
  { do: 'compressed', offset: 0, length: 2 * MiB },
  { do: 'data', offset: 3 * MiB, length: 4 * MiB },
];
const EXTENDED: ImageSpec = { options: ['extended_l2=on'] };

const DAMAGES: readonly Damage[] = [
  {
    title: 'an L2 entry whose cluster offset is unaligned',
    apply: (image) => patchL2(image, 5 * 64 * KiB, readL2(image, 5 * 64 * KiB) | 0x200n),
    lost: [5 * 64 * KiB, 6 * 64 * KiB],
    log: ['L2 entry 5 ', 'not aligned'],
  },
  {
    title: 'an L2 entry marked as a zero cluster in a version 2 image',
    spec: { version: 2 },
    apply: (image) => patchL2(image, 9 * 64 * KiB, readL2(image, 9 * 64 * KiB) | 1n),
    lost: [9 * 64 * KiB, 10 * 64 * KiB],
    log: ['L2 entry 9 ', 'version 2'],
  },
  {
    title: 'an L1 entry that points outside the file',
    spec: { clusterSize: 4 * KiB },
    apply: (image) => patchL1(image, 1, COPIED | OUTSIDE),
    lost: [2 * MiB, 4 * MiB],
    log: ['L1 entry 1', '0x10000000000', 'outside the file'],
  },
  {
    title: 'an L1 entry whose table offset is unaligned',
    spec: { clusterSize: 4 * KiB },
    apply: (image) => patchL1(image, 2, readL1(image, 2) | 0x200n),
    lost: [4 * MiB, 6 * MiB],
    log: ['L1 entry 2', 'not aligned'],
  },
  {
    title: 'a compressed cluster full of garbage, zlib',
    guest: PACKED,
    apply: (image) => damageCompressed(image, 7 * 64 * KiB),
    lost: [7 * 64 * KiB, 8 * 64 * KiB],
    log: ['compressed cluster', '0x70000', 'does not inflate'],
  },
  {
    title: 'a compressed cluster full of garbage, zstd',
    spec: { options: ['compression_type=zstd'] },
    guest: PACKED,
    apply: (image) => damageCompressed(image, 7 * 64 * KiB),
    lost: [7 * 64 * KiB, 8 * 64 * KiB],
    log: ['compressed cluster', '0x70000', 'does not inflate'],
  },
  {
    title: 'a compressed cluster that lies outside the file',
    guest: PACKED,
    apply: (image) => patchL2(image, 0, readL2(image, 0) | (1n << (COMPRESSED_OFFSET_BITS - 4n))),
    lost: [0, 64 * KiB],
    log: ['compressed cluster', 'guest offset 0x0 '],
  },
  {
    title: 'an extended L2 entry with a subcluster both allocated and zero',
    spec: EXTENDED,
    apply: (image) => patchSubclusterBitmap(image, 3 * 64 * KiB, 0x0000_0010_ffff_ffffn),
    lost: [3 * 64 * KiB, 4 * 64 * KiB],
    log: ['L2 entry 3 ', 'both allocated and zero'],
  },
  {
    title: 'an extended L2 entry with an allocated subcluster but no cluster',
    spec: EXTENDED,
    apply: (image) => patchL2(image, 3 * 64 * KiB, 0n),
    lost: [3 * 64 * KiB, 4 * 64 * KiB],
    log: ['L2 entry 3 ', 'no cluster'],
  },
  {
    title: 'an L2 entry that leads elsewhere in an external data file',
    spec: { options: ['data_file=data.raw'] },
    apply: (image) => patchL2(image, 4 * 64 * KiB, COPIED | BigInt(5 * 64 * KiB)),
    lost: [4 * 64 * KiB, 5 * 64 * KiB],
    log: ['L2 entry 4 ', 'data file'],
  },
  {
    title: 'a compressed cluster in an image with an external data file',
    spec: { options: ['data_file=data.raw'] },
    apply: (image) => patchL2(image, 4 * 64 * KiB, readL2(image, 4 * 64 * KiB) | (1n << 62n)),
    lost: [4 * 64 * KiB, 5 * 64 * KiB],
    log: ['L2 entry 4 ', 'data file'],
  },
];

function damageCompressed(image: string, guestOffset: number): void {
  // 64 KiB clusters: the offset is the low 54 bits. Block type 3 does not exist in deflate, nor this magic in zstd.
  const at = Number(BigInt.asUintN(Number(COMPRESSED_OFFSET_BITS), readL2(image, guestOffset)));
  patchBytes(image, at, Buffer.alloc(16, 0xff));
}

/** Reads the disk grain by grain; gives what could be read, and the ranges that failed. */
function readAround(disk: string, flags: number): { bytes: Buffer; failed: (readonly [number, number])[] } {
  const fd = fs.openSync(disk, fs.constants.O_RDONLY | flags);
  try {
    const bytes = Buffer.alloc(fs.fstatSync(fd).size);
    const failed: [number, number][] = [];
    for (let at = 0; at < bytes.length; at += GRAIN) {
      try {
        expect(fs.readSync(fd, bytes, at, GRAIN, at)).to.equal(GRAIN);
      } catch (error) {
        expect(String(error)).to.contain('EIO');
        const last = failed.at(-1);
        if (last?.[1] === at) last[1] = at + GRAIN;
        else failed.push([at, at + GRAIN]);
      }
    }
    return { bytes, failed };
  } finally {
    fs.closeSync(fd);
  }
}

function expectSameOutside(bytes: Buffer, expected: Buffer, [start, end]: readonly [number, number]): void {
  expect(bytes.subarray(0, start).equals(expected.subarray(0, start)), 'what lies before').to.equal(true);
  expect(bytes.subarray(end).equals(expected.subarray(end)), 'what lies behind').to.equal(true);
}

describe('a damaged image', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function makeImage(
    spec: ImageSpec = {},
    guest: readonly Step[] = FULL,
  ): { image: Image; expected: Buffer } {
    const image = createImage(scratch.subdir(), { size: SIZE, ...spec });
    writeSteps(image, 1, guest);
    return { image, expected: fs.readFileSync(convertToRaw(image)) };
  }

  for (const { title, spec, guest, apply, lost, log: words } of DAMAGES) {
    for (const transport of ['kernel', 'libfuse']) {
      it(`with ${title} loses exactly that range, with the ${transport} transport`, () => {
        const { image, expected } = makeImage(spec, guest);
        apply(imagePath(image));
        const args = ['--transport', transport, '--threads', '4'];
        const { mountpoint, disk, log } = mountOn(defer, imagePath(image), scratch.subdir(), args);
        const modes = [0, ...(transport === 'kernel' ? [fs.constants.O_DIRECT] : [])];
        for (const flags of modes) {
          const { bytes, failed } = readAround(disk, flags);
          expect(failed).to.deep.equal([lost]);
          expectSameOutside(bytes, expected, lost);
        }
        const lines = logLines(log).slice(1);
        expect(lines, 'lines in the log').to.have.length(1);
        for (const line of lines)
          for (const word of [imagePath(image), ...words]) expect(line).to.contain(word);
        expectQcow2fs(['umount', mountpoint]);
      });
    }
  }

  it('gives cp an error, and dd conv=noerror everything else', () => {
    const { image, expected } = makeImage();
    patchL2(imagePath(image), 5 * 64 * KiB, readL2(imagePath(image), 5 * 64 * KiB) | 0x200n);
    const { disk } = mountOn(defer, imagePath(image), scratch.subdir());
    const copy = path.join(scratch.subdir(), 'copy');
    expect(tryTool('cp', disk, copy).stderr).to.match(/Input\/output error/);
    const salvaged = tryTool('dd', `if=${disk}`, `of=${copy}`, 'bs=64k', 'conv=noerror,sync', 'iflag=direct');
    expect(salvaged.stderr).to.match(/Input\/output error/);
    expectSameOutside(fs.readFileSync(copy), expected, [5 * 64 * KiB, 6 * 64 * KiB]);
    expect(fs.statSync(copy).size).to.equal(SIZE);
  });

  it('fills no log: the damage is told once, however often and by however many threads it is read', () => {
    const { image } = makeImage();
    patchL2(imagePath(image), 5 * 64 * KiB, readL2(imagePath(image), 5 * 64 * KiB) | 0x200n);
    const args = ['--threads', '4'];
    const { disk, log } = mountOn(defer, imagePath(image), scratch.subdir(), args);
    for (let round = 0; round < 8; round++) readAround(disk, fs.constants.O_DIRECT);
    expect(logLines(log).slice(1)).to.have.length(1);
  });

  it('below a sound overlay loses the range where it shows through', () => {
    const { image, expected } = makeImage({ name: 'base.qcow2' });
    const base = imagePath(image);
    const backing = { file: 'base.qcow2', format: 'qcow2' } as const;
    const overlay = createImage(image.dir, { name: 'top.qcow2', size: SIZE, backing });
    writeSteps(overlay, 1, [{ do: 'data', offset: 5 * 64 * KiB, length: 64 * KiB }]);
    for (const cluster of [5, 6]) {
      patchL2(base, cluster * 64 * KiB, readL2(base, cluster * 64 * KiB) | 0x200n);
    }
    const { disk, log } = mountOn(defer, imagePath(overlay), scratch.subdir(), ['--threads', '1']);
    const { bytes, failed } = readAround(disk, 0);
    expect(failed).to.deep.equal([[6 * 64 * KiB, 7 * 64 * KiB]]);
    expectSameOutside(bytes, expected, failed[0]!);
    expect(logLines(log).at(-1)).to.contain(`${base}: L2 entry 6 `);
  });

  it('with reserved bits in an L2 entry is read as the reference reads it', () => {
    const { image, expected } = makeImage();
    patchL2(imagePath(image), 5 * 64 * KiB, readL2(imagePath(image), 5 * 64 * KiB) | (0x2fn << 56n) | 0x1fen);
    const reference = fs.readFileSync(convertToRaw(image, 'damaged.raw'));
    expect(reference.equals(expected)).to.equal(true);
    const { disk } = mountOn(defer, imagePath(image), scratch.subdir());
    expect(fs.readFileSync(disk).equals(reference)).to.equal(true);
  });

  it('cut off in the middle keeps what lies before, and reads lost clusters as the reference does', () => {
    const { image, expected } = makeImage();
    const lost = 3 * MiB;
    truncateImage(imagePath(image), hostOffset(imagePath(image), lost));
    const reference = convertToRaw(image, 'damaged.raw');
    const { disk } = mountOn(defer, imagePath(image), scratch.subdir());
    const bytes = fs.readFileSync(disk);
    expect(bytes.subarray(0, lost).equals(expected.subarray(0, lost))).to.equal(true);
    expect(sha256(disk)).to.equal(sha256(reference));
  });

  it('cut off before an L2 table loses the range of that table alone', () => {
    const { image, expected } = makeImage({ clusterSize: 4 * KiB });
    const table = l2EntryOffset(imagePath(image), 6 * MiB);
    const behind = [0, 2, 4].map((mib) => l2EntryOffset(imagePath(image), mib * MiB));
    expect(Math.max(...behind)).to.be.lessThan(table);
    truncateImage(imagePath(image), table);
    const { disk, log } = mountOn(defer, imagePath(image), scratch.subdir(), ['--threads', '1']);
    const { bytes, failed } = readAround(disk, 0);
    expect(failed).to.deep.equal([[6 * MiB, 8 * MiB]]);
    expect(bytes.subarray(0, 5 * MiB).equals(expected.subarray(0, 5 * MiB))).to.equal(true);
    expect(logLines(log).at(-1)).to.match(/L1 entry 3: the L2 table at 0x[0-9a-f]+ lies outside the file/);
  });

  it('cut off while it is mounted keeps what lies before, and the mount', () => {
    const { image, expected } = makeImage();
    const { mountpoint, disk } = mountOn(defer, imagePath(image), scratch.subdir());
    const end = 3 * MiB;
    truncateImage(imagePath(image), hostOffset(imagePath(image), end));
    const { bytes } = readAround(disk, fs.constants.O_DIRECT);
    expect(bytes.subarray(0, end).equals(expected.subarray(0, end))).to.equal(true);
    expectQcow2fs(['umount', mountpoint]);
  });
});
