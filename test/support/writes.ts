/** Writes to images of the matrix; afterwards the reference tools find them clean and read what was written. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';
import { checkImage, convertToRaw } from './images.js';
import { lane } from './lane.js';
import { patternBytes, SECTOR_SIZE } from './pattern.js';
import { openBuilt } from './presented.js';
import { RandomGuest, randomNumbers } from './random-guest.js';
import { targetOf } from './target.js';
import type { BuiltImage } from './variant.js';

/** A long run by hand: QCOW2FS_OPERATIONS=100000 QCOW2FS_SEED=7 make test TESTS=dist/test/matrix */
const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? lane(200, 4000));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const REOPENINGS = lane(2, 4);

export async function expectWrittenAtRandom(image: BuiltImage): Promise<void> {
  const guest = new RandomGuest(fs.readFileSync(image.expected), randomNumbers(SEED));
  for (let round = 0; round < REOPENINGS; round++) {
    const disk = await openBuilt(image, true);
    const target = targetOf(disk);
    for (let i = 0; i < OPERATIONS / REOPENINGS; i++) guest.step(target);
    guest.checkAll(target);
    disk.close();
    checkImage(image.source);
  }
  expectContent(image, guest.shadow);
}

export function expectContent(image: BuiltImage, shadow: Buffer): void {
  const content = fs.readFileSync(convertToRaw(image.source, path.basename(image.expected)));
  if (!content.equals(shadow)) throw new Error('the reference reads something else');
}

/** Of each probe: not at its start, not a multiple of the sector, across the borders of most clusters. */
const SKIPPED = 3 * SECTOR_SIZE;
const LENGTH = 200_001;

/** @param write as `Disk.write`, or as a mount is written */
export type Write = (bytes: Buffer, offset: number) => void;

/** Writes around the probes of a disk that is too large to be compared as a whole. */
export function writeFarAway({ probes = [] }: BuiltImage, write: Write): ReadonlyMap<number, Buffer> {
  const writes = new Map<number, Buffer>();
  for (const { offset, length } of probes) {
    const start = offset + SKIPPED;
    const bytes = patternBytes(SEED, start, Math.min(LENGTH, length - SKIPPED));
    write(bytes, start);
    writes.set(start, bytes);
  }
  return writes;
}

/** Probes of the reference's raw file have what was written, and else what was there before. */
export function expectWrittenFarAway(image: BuiltImage, writes: ReadonlyMap<number, Buffer>): void {
  checkImage(image.source);
  const after = convertToRaw(image.source, 'after.raw');
  expect(fs.statSync(after).size).to.equal(fs.statSync(image.expected).size);
  for (const { offset, length } of image.probes!) {
    const want = readRange(image.expected, offset, length);
    for (const [start, bytes] of writes) {
      const from = start - offset;
      if (from < length && from + bytes.length > 0) bytes.copy(want, Math.max(0, from), Math.max(0, -from));
    }
    expect(readRange(after, offset, length).equals(want), `probe at ${offset}`).to.equal(true);
  }
}

function readRange(file: string, offset: number, length: number): Buffer {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    expect(fs.readSync(fd, bytes, 0, length, offset), `bytes at ${offset}`).to.equal(length);
    return bytes;
  } finally {
    fs.closeSync(fd);
  }
}

export async function expectNotOpenedForWriting(image: BuiltImage): Promise<void> {
  const before = fs.readFileSync(image.image);
  const outcome = await openBuilt(image, true).catch((error: unknown) => error);
  expect(outcome).to.be.an.instanceOf(Qcow2fsError).with.property('kind', 'corrupt');
  expect(fs.readFileSync(image.image).equals(before)).to.equal(true);
}
