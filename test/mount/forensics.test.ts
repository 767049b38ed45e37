/** Tools of the trade on a mounted disk: the sleuthkit, cp, dd, du. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { seekData, seekHole } from '../../src/host/libc.js';
import { sha256 } from '../support/files.js';
import {
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  imagePath,
  KiB,
  MiB,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { mountArguments, mountReadOnly, ROOT } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const EXAMPLE = path.join(ROOT, 'contrib', 'example');

describe('the sleuthkit on the encrypted example image', () => {
  const scratch = useScratch();
  let disk: string;

  beforeEach(() => {
    const key = ['--secret-file', path.join(EXAMPLE, 'secret')];
    ({ disk } = mountReadOnly(path.join(EXAMPLE, 'example.qcow2'), scratch.dir, key));
  });

  it('finds the partition with mmls', () => {
    expect(tool('mmls', disk)).to.match(/0000002048 .*Linux|0000002048 .*\S/);
    expect(tool('mmls', disk)).to.contain('GUID Partition Table (EFI)');
  });

  it('lists with fls every file that was put into it', () => {
    const listed = tool('fls', '-r', '-p', '-F', '-o', '2048', disk);
    for (const name of exampleFiles()) expect(listed).to.contain(`\t${name}\n`);
  });

  it('extracts with icat the bytes of every file', () => {
    const listed = tool('fls', '-r', '-p', '-F', '-o', '2048', disk);
    for (const name of exampleFiles()) {
      const line = listed.split('\n').find((candidate) => candidate.endsWith(`\t${name}`));
      const inode = /r\/r (\d+):/.exec(line ?? '')?.[1];
      expect(inode, name).to.be.a('string');
      const copy = scratch.path('extracted');
      tool('sh', '-c', 'icat -o 2048 "$1" "$2" > "$3"', 'sh', disk, inode!, copy);
      expect(sha256(copy), name).to.equal(sha256(path.join(EXAMPLE, 'files', name)));
    }
  });
});

function exampleFiles(): string[] {
  const top = path.join(EXAMPLE, 'files');
  const names = fs.readdirSync(top, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => fs.statSync(path.join(top, name)).isFile());
}

/** 64 MiB with 1 MiB of data in three places, a part of them compressed, and explicit zeros. */
function makeSparse(dir: string, image: Image): string {
  writeSteps(image, 1, [
    { do: 'data', offset: 0, length: 256 * KiB },
    { do: 'data', offset: 20 * MiB, length: 512 * KiB },
    { do: 'compressed', offset: 40 * MiB, length: 192 * KiB },
    { do: 'data', offset: 64 * MiB - 64 * KiB, length: 64 * KiB },
    { do: 'zero', offset: 30 * MiB, length: 2 * MiB },
    { do: 'zero-unmap', offset: 20 * MiB + 64 * KiB, length: 64 * KiB },
  ]);
  expect(dir).to.equal(image.dir);
  return convertToRaw(image);
}

const ALLOCATED = MiB - 64 * KiB;
const DATA: readonly (readonly [start: number, end: number])[] = [
  [0, 256 * KiB],
  [20 * MiB, 20 * MiB + 64 * KiB],
  [20 * MiB + 128 * KiB, 20 * MiB + 512 * KiB],
  [40 * MiB, 40 * MiB + 192 * KiB],
  [64 * MiB - 64 * KiB, 64 * MiB],
];

for (const kind of ['plain', 'LUKS'] as const) {
  describe(`a sparse ${kind} disk of 64 MiB`, () => {
    const scratch = useScratch();
    const dir = scratch.subdir();
    const args: string[] = [];
    let image: Image;
    let expected: string;
    let disk: string;

    before(() => {
      const secret = writeSecret(dir, 'open sesame');
      const luks = { secret, encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'] };
      image = createImage(dir, { size: 64 * MiB, ...(kind === 'LUKS' ? luks : {}) });
      expected = sha256(makeSparse(dir, image));
      if (kind === 'LUKS') {
        args.push(...mountArguments({ image: '', expected: '', source: image, secretFile: secret.file }));
      }
    });
    beforeEach(() => {
      ({ disk } = mountReadOnly(imagePath(image), scratch.dir, args));
    });

    it('is copied by cp --sparse=auto, byte for byte, into a file that takes no more room than the data', () => {
      const copy = scratch.path('copy.raw');
      tool('cp', '--sparse=auto', disk, copy);
      expect(sha256(copy)).to.equal(expected);
      expect(diskUsage(copy)).to.be.within(64 * KiB, ALLOCATED + 128 * KiB);
    });

    it('is copied by dd, byte for byte, whatever the block size', () => {
      const copy = scratch.path('copy.raw');
      for (const blockSize of ['1M', '4k', '100003']) {
        tool('dd', `if=${disk}`, `of=${copy}`, `bs=${blockSize}`, 'conv=sparse', 'status=none');
        fs.truncateSync(copy, 64 * MiB);
        expect(sha256(copy), blockSize).to.equal(expected);
        fs.rmSync(copy);
      }
    });

    it('is read by dd with direct I/O, byte for byte', () => {
      const copy = scratch.path('copy.raw');
      tool('dd', `if=${disk}`, `of=${copy}`, 'bs=1M', 'iflag=direct', 'status=none');
      expect(sha256(copy)).to.equal(expected);
    });

    it('shows its allocated bytes to du, and its size to du --apparent-size and stat', () => {
      expect(diskUsage(disk)).to.equal(ALLOCATED);
      expect(Number(tool('du', '--apparent-size', '--block-size=1', disk).split('\t')[0])).to.equal(64 * MiB);
      expect(Number(tool('stat', '-c', '%s', disk))).to.equal(64 * MiB);
    });

    it('tells SEEK_DATA and SEEK_HOLE where the data is', () => {
      const fd = fs.openSync(disk, 'r');
      try {
        const found: [number, number][] = [];
        for (let at = seekData(fd, 0); at !== undefined; ) {
          const end = seekHole(fd, at) ?? 64 * MiB;
          found.push([at, end]);
          at = end < 64 * MiB ? seekData(fd, end) : undefined;
        }
        expect(found).to.deep.equal(DATA);
      } finally {
        fs.closeSync(fd);
      }
    });

    it('is exactly as large as the image says, with its size in statfs', () => {
      const [blocks, blockSize] = tool('stat', '-f', '-c', '%b %S', disk).split(' ').map(Number);
      expect(blocks! * blockSize!).to.equal(64 * MiB);
      expect(fs.readFileSync(disk).length).to.equal(64 * MiB);
    });

    it('shows in df what it holds as used, and the rest as free', () => {
      const [size, used, free] = tool('df', '-B1', '--output=size,used,avail', disk)
        .split('\n')[1]!
        .trim()
        .split(/ +/)
        .map(Number);
      expect(size).to.equal(64 * MiB);
      expect(used).to.equal(diskUsage(disk));
      expect(free).to.equal(size! - used!);
    });
  });
}

function diskUsage(file: string): number {
  return Number(tool('du', '--block-size=1', file).split('\t')[0]);
}

describe('a mounted disk in the hands of qemu-img', () => {
  const scratch = useScratch();

  it('is converted back to the raw file that it was made of', () => {
    const dir = scratch.subdir();
    const raw = createRaw(dir, 'origin.raw', 5 * MiB + 512, 3, [
      { offset: 0, length: 70_000 },
      { offset: 3 * MiB, length: MiB },
    ]);
    tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', raw, path.join(dir, 'image.qcow2'));
    const { disk } = mountReadOnly(path.join(dir, 'image.qcow2'), scratch.dir);
    const back = path.join(dir, 'back.raw');
    tool('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', disk, back);
    expect(sha256(back)).to.equal(sha256(raw));
  });
});
