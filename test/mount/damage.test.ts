/** Damage inside an image: an I/O error for exactly its range, a line in the log, and everything else as it was. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import {
  hostOffset,
  l2EntryOffset,
  patchBytes,
  patchL1,
  patchL2,
  readBytes,
  readL2,
  truncateImage,
} from '../support/damage.js';
import { DAMAGES, DISK_SIZE, FULL } from '../support/damaged-images.js';
import { sha256 } from '../support/files.js';
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
import { lane } from '../support/lane.js';
import { logLines, mountOn } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const GRAIN = 4 * KiB;
const TRANSPORTS = ['kernel', 'libfuse'];

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

// SECURITY.md: "damage causes an error for its range, and the rest of the disk can be read"
describe('a damaged image', () => {
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

  for (const [index, { title, spec, guest, apply, lost, log: words }] of DAMAGES.entries()) {
    // error-map.test.ts uses the other transport.
    for (const transport of lane([TRANSPORTS[index % 2]!], TRANSPORTS)) {
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
    expect(fs.statSync(copy).size).to.equal(DISK_SIZE);
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
    const overlay = createImage(image.dir, { name: 'top.qcow2', size: DISK_SIZE, backing });
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

  for (const options of [[], ['extended_l2=on']]) {
    it(`cut off within an L2 table loses what is missing of it alone${options.length > 0 ? ': extended' : ''}`, () => {
      const clusterSize = options.length > 0 ? 16 * KiB : 4 * KiB;
      const { image, expected } = makeImage({ clusterSize, options });
      const file = imagePath(image);
      // The table goes to the end of the file, all but its first 100 entries and a half behind it.
      const end = Math.ceil(fs.statSync(file).size / clusterSize) * clusterSize;
      const table = l2EntryOffset(file, 0);
      const entryBytes = options.length > 0 ? 16 : 8;
      patchBytes(file, end, readBytes(file, table, 100 * entryBytes + 4));
      patchL1(file, 0, BigInt(end));
      const { disk, log } = mountOn(defer, file, scratch.subdir());
      const { bytes, failed } = readAround(disk, 0);
      const lost = Math.min((clusterSize / entryBytes) * clusterSize, expected.length);
      expect(failed).to.deep.equal([[100 * clusterSize, lost]]);
      expect(bytes.subarray(0, 100 * clusterSize).equals(expected.subarray(0, 100 * clusterSize))).to.equal(
        true,
      );
      expect(logLines(log).join('\n')).to.contain('lies outside the file from entry 100 on');
    });
  }

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
