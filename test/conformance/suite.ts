/**
 * The conformance suite: what every image must show, whoever presents it. The oracle is the raw file that the
 * reference tools made of the image. How images are written through each transport: see libfuse.test.ts.
 */

import fs from 'node:fs';
import { expect } from 'chai';
import { readSecret } from '../../src/cli/secret.js';
import { AllocationCount } from '../../src/disk.js';
import { seekData, seekHole } from '../../src/host/libc.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { mountArguments, mountReadOnly } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { threadCounts } from '../support/threads.js';
import type { BuiltImage, Variant } from '../support/variant.js';

const MIB = 1024 * 1024;
const SMALL_READS = 200;

/** A disk in many pieces is counted while it is mounted, and the kernel remembers for a second what it was told. */
const COUNTING_MS = 60_000;
const POLL_MS = 50;

const clock = new Int32Array(new SharedArrayBuffer(4));
function sleep(milliseconds: number): void {
  Atomics.wait(clock, 0, 0, milliseconds);
}

/** A disk as one presentation shows it. */
interface Presented {
  readonly size: number;
  read(target: Buffer, length: number, offset: number): void;
  /** Runs that the presentation calls holes; undefined where it cannot tell. */
  readonly holes: readonly Range[] | undefined;
  /** Bytes that the presentation calls allocated: what is expected, unless it does not come to that in a while. */
  allocated(expected: number): number;
  close(): void | Promise<void>;
}

interface Range {
  readonly offset: number;
  readonly length: number;
}

interface Presentation {
  readonly name: string;
  present(image: BuiltImage, dir: string): Promise<Presented>;
}

/** @param index of the image among its like */
function presentationsOf(index: number): Presentation[] {
  return [
    { name: 'as a Disk', present: presentDisk },
    ...threadCounts(index).map((threads) => ({
      name: `through the kernel transport, with --threads ${threads}`,
      present: async (image: BuiltImage, dir: string) =>
        presentMount(image, dir, 'kernel', ['--threads', String(threads)]),
    })),
    { name: 'through libfuse', present: async (image, dir) => presentMount(image, dir, 'libfuse') },
  ];
}

async function presentDisk(image: BuiltImage): Promise<Presented> {
  const disk = await openDisk(image.image, {
    secret:
      image.secretFile === undefined ? undefined : readSecret(image.secretFile, image.secretFormat ?? 'raw'),
    snapshot: image.snapshot,
  });
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
    close: () => disk.close(),
  };
}

function presentMount(
  image: BuiltImage,
  dir: string,
  transport: 'kernel' | 'libfuse',
  args: readonly string[] = [],
): Presented {
  const all = ['--transport', transport, ...args, ...mountArguments(image)];
  const mounted = mountReadOnly(image.image, dir, all);
  const fd = fs.openSync(mounted.disk, 'r');
  const { size } = fs.fstatSync(fd);
  return {
    size,
    read: (target, length, offset) => {
      expect(fs.readSync(fd, target, 0, length, offset), `bytes read at ${offset}`).to.equal(length);
    },
    holes: transport === 'kernel' ? seekHoles(fd, size) : undefined,
    allocated: (expected) => {
      const deadline = Date.now() + COUNTING_MS;
      const allocated = (): number => fs.fstatSync(fd).blocks * 512;
      while (allocated() !== expected && Date.now() < deadline) sleep(POLL_MS);
      return allocated();
    },
    close: () => {
      fs.closeSync(fd);
      mounted.unmount();
    },
  };
}

function seekHoles(fd: number, size: number): Range[] {
  const holes: Range[] = [];
  for (let at = 0; at < size; ) {
    const hole = seekHole(fd, at) ?? size;
    const data = hole < size ? (seekData(fd, hole) ?? size) : size;
    if (data > hole) holes.push({ offset: hole, length: data - hole });
    at = data;
  }
  return holes;
}

/** Describes all variants of a table, each built once and shown by every presentation. */
export function describeConformance(title: string, variants: readonly Variant[]): void {
  describe(`conformance: ${title}`, () => {
    for (const [index, variant] of variants.entries()) describeVariant(variant, index);
  });
}

function describeVariant(variant: Variant, index: number): void {
  describe(variant.name, () => {
    const scratch = useScratch();
    let image: BuiltImage;
    let expected: number;

    before(() => {
      image = variant.build(scratch.subdir());
      expected = fs.openSync(image.expected, 'r');
    });
    after(() => fs.closeSync(expected));

    for (const { name, present } of presentationsOf(index)) {
      it(`reads as the reference reads it, ${name}`, async () => {
        const presented = await present(image, scratch.dir);
        try {
          expect(presented.size).to.equal(fs.fstatSync(expected).size);
          compareRanges(presented, expected, image.probes ?? [{ offset: 0, length: presented.size }]);
          compareSmallReads(presented, expected, image.probes);
          checkHoles(presented, expected);
        } finally {
          await presented.close();
        }
      });
    }
  });
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
  const got = Buffer.alloc(70_000);
  const want = Buffer.alloc(70_000);
  for (let i = 0; i < SMALL_READS && presented.size > 0; i++) {
    const within = probes?.[i % probes.length] ?? { offset: 0, length: presented.size };
    const offset = within.offset + Math.floor(random() * within.length);
    const length = Math.min(1 + Math.floor(random() ** 4 * 69_999), presented.size - offset);
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
  for (const { offset, length } of presented.holes) {
    holeBytes += length;
    for (let at = offset; at < offset + length; ) {
      const data = seekData(expected, at) ?? presented.size;
      at = Math.min(Math.max(at, data), offset + length);
      const piece = Math.min(MIB, offset + length - at);
      fs.readSync(expected, want, 0, piece, at);
      for (let i = 0; i < piece; i++)
        if (want[i] !== 0) expect.fail(`byte ${at + i} lies in a hole, but has data`);
      at += piece;
    }
  }
  const allocated = presented.size - holeBytes;
  expect(presented.allocated(allocated), 'allocated bytes').to.equal(allocated);
}

/** Park-Miller: the same sequence for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}
