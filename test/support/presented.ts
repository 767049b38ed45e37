/** A disk as something presents it, a `Disk` or a mount, compared with the raw file that the reference tools made. */
import fs from 'node:fs';
import { expect } from 'chai';
import { readSecret } from '../../src/cli/secret.js';
import { AllocationCount, type Disk } from '../../src/disk.js';
import { seekData } from '../../src/host/libc.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { randomNumbers } from './random-guest.js';
import type { BuiltImage } from './variant.js';

const MIB = 1024 * 1024;
const SMALL_READS = 200;
const MAX_SMALL_READ = 70_000;

export interface Presented {
  readonly size: number;
  read(target: Buffer, length: number, offset: number): void;
  /** Runs that the presentation calls holes; undefined where it cannot tell. */
  readonly holes: readonly Range[] | undefined;
  /** Bytes that the presentation calls allocated; it may take some time until they are what is expected. */
  allocated(expected: number): number;
}

export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** An image of the matrix, opened with the key and the snapshot that it needs. */
export function openBuilt(image: BuiltImage, writable = false): Promise<Disk> {
  const { secretFile, secretFormat = 'raw', snapshot } = image;
  const secret = secretFile === undefined ? undefined : readSecret(secretFile, secretFormat);
  return openDisk(image.image, { secret, snapshot, writable });
}

export function presentDisk(disk: Disk): Presented {
  const holes: Range[] = [];
  const budget = { steps: Number.POSITIVE_INFINITY };
  let covered = 0;
  disk.scan(
    0,
    disk.size,
    ({ offset, length, data }) => {
      expect(offset, 'extents follow each other').to.equal(covered);
      covered += length;
      if (!data) holes.push({ offset, length });
      return true;
    },
    budget,
  );
  expect(covered, 'bytes covered by extents').to.equal(disk.size);
  return {
    size: disk.size,
    read: (target, length, offset) => disk.read(target, 0, length, offset),
    holes,
    allocated: () => {
      const count = new AllocationCount(disk);
      while (!count.advance(1000)) expect(count.bytes).to.be.at.most(disk.size);
      return count.bytes;
    },
  };
}

/** Every byte, or every probe of a huge disk; small reads at random places; and holes. */
export function expectPresented(presented: Presented, image: BuiltImage): void {
  const expected = fs.openSync(image.expected, 'r');
  try {
    expect(presented.size).to.equal(fs.fstatSync(expected).size);
    compareRanges(presented, expected, image.probes ?? [{ offset: 0, length: presented.size }]);
    compareSmallReads(presented, expected, image.probes);
    checkHoles(presented, expected);
  } finally {
    fs.closeSync(expected);
  }
}

function compareRanges(presented: Presented, expected: number, ranges: readonly Range[]): void {
  const got = Buffer.alloc(MIB);
  const want = Buffer.alloc(MIB);
  for (const { offset, length } of ranges) {
    for (let at = offset; at < offset + length; at += MIB) {
      const piece = Math.min(MIB, offset + length - at);
      presented.read(got, piece, at);
      fs.readSync(expected, want, 0, piece, at);
      expectSame(got, want, piece, at);
    }
  }
}

/** Unaligned reads at places that a fixed seed picks. */
function compareSmallReads(
  presented: Presented,
  expected: number,
  probes: readonly Range[] | undefined,
): void {
  const random = randomNumbers(presented.size);
  const got = Buffer.alloc(MAX_SMALL_READ);
  const want = Buffer.alloc(MAX_SMALL_READ);
  for (let i = 0; i < SMALL_READS && presented.size > 0; i++) {
    const within = probes?.[i % probes.length] ?? { offset: 0, length: presented.size };
    const offset = within.offset + Math.floor(random() * within.length);
    const length = Math.min(1 + Math.floor(random() ** 4 * (MAX_SMALL_READ - 1)), presented.size - offset);
    presented.read(got, length, offset);
    fs.readSync(expected, want, 0, length, offset);
    expectSame(got, want, length, offset);
  }
}

function expectSame(got: Buffer, want: Buffer, length: number, offset: number): void {
  if (got.compare(want, 0, length, 0, length) === 0) return;
  let at = 0;
  while (got[at] === want[at]) at++;
  expect.fail(`byte ${offset + at} is ${got[at]}, the reference reads ${want[at]}`);
}

/** What is called a hole must read as zeros, and what is not must be what st_blocks counts. */
function checkHoles(presented: Presented, expected: number): void {
  if (presented.holes === undefined) return;
  let holeBytes = 0;
  const want = Buffer.alloc(MIB);
  const zeros = Buffer.alloc(MIB);
  for (const { offset, length } of presented.holes) {
    holeBytes += length;
    for (let at = offset; at < offset + length; ) {
      const data = seekData(expected, at) ?? presented.size;
      at = Math.min(Math.max(at, data), offset + length);
      const piece = Math.min(MIB, offset + length - at);
      fs.readSync(expected, want, 0, piece, at);
      if (want.compare(zeros, 0, piece, 0, piece) !== 0) {
        const wrong = want.findIndex((byte) => byte !== 0);
        expect.fail(`byte ${at + wrong} is in a hole, but has data`);
      }
      at += piece;
    }
  }
  const allocated = presented.size - holeBytes;
  expect(presented.allocated(allocated), 'allocated bytes').to.equal(allocated);
}
