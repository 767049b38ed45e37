/** A repair that cannot be brought to its end is not begun, and what may be in use is not given away. */

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { check, kindsOf } from '../support/check-request.js';
import {
  l2EntryOffset,
  patchBytes,
  patchField,
  patchL1,
  patchL2,
  patchNumber,
  readBytes,
  readField,
  readL1,
  readL2,
  readNumber,
  snapshotEntryOffset,
  truncateImage,
} from '../support/damage.js';
import {
  createImage,
  GiB,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  qemuIo,
  takeSnapshot,
  writeSteps,
} from '../support/images.js';
import { qemuCheck } from '../support/qemu-check.js';
import { useScratch } from '../support/scratch.js';

const COPIED = 1n << 63n;
const RESERVED = 1n << 58n;

describe('a repair that is refused', () => {
  const scratch = useScratch();

  it('changes nothing when the refcounts would need too large a table', async () => {
    const image = createImage(scratch.subdir(), {
      size: MiB,
      clusterSize: 512,
      options: ['refcount_bits=64'],
    });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: 4096 }]);
    const path = imagePath(image);
    const sound = readFileSync(path).length;
    // 8 MiB of refcount table reach to 32 GiB.
    truncateImage(path, 33 * GiB);
    patchNumber(path, l2EntryOffset(path, 0), 8, COPIED | BigInt(33 * GiB - 512));
    patchL1(path, 0, readL1(path, 0) | 1n);
    const before = readBytes(path, 0, sound);

    const report = await check(path, 'all');

    expect(report.repair?.refusal).to.match(
      /the refcounts need a table of more than 8388608 bytes; .*qemu-img convert/,
    );
    expect(kindsOf(report)).to.include('reserved-bits');
    expect(readBytes(path, 0, sound).equals(before)).to.equal(true);
  });
});

describe('a repair of leaks', () => {
  const scratch = useScratch();

  it('keeps compressed data whose length reaches beyond the end of the file', async () => {
    for (const level of ['leaks', 'all'] as const) {
      const image = createImage(scratch.subdir(), { size: 64 * KiB, clusterSize: 4 * KiB });
      qemuIo(image, ['write -c -P 7 0 4k']);
      const path = imagePath(image);
      // As many sectors as can be said.
      patchBytes(path, l2EntryOffset(path, 0), Buffer.from([0x7c]));
      qemuIo(image, ['read -P 7 0 4k']);
      expect((await check(path)).totals).to.include({ leak: 0, corruption: 1 });
      await check(path, level);
      qemuIo(image, ['write -P 9 32k 4k', 'write -P 9 40k 4k', 'read -P 7 0 4k']);
    }
  });

  function withSnapshot(): { image: Image; path: string } {
    const image = createImage(scratch.subdir(), { size: 10 * MiB });
    qemuIo(image, ['write -P 1 0 4M']);
    takeSnapshot(image, 'one', '1');
    qemuIo(image, ['write -P 2 0 1M']);
    return { image, path: imagePath(image) };
  }

  for (const [what, cut] of [
    [
      'whose L1 table is said to be shorter than its disk',
      (path: string) => [snapshotEntryOffset(path, 0) + 8, 0],
    ],
    ['that the header does not count any more', () => [60, 0]],
  ] as const) {
    it(`keeps a snapshot ${what}`, async () => {
      const { path } = withSnapshot();
      const [at, value] = cut(path);
      patchNumber(path, at!, 4, value!);
      const before = readFileSync(path);
      for (const level of ['leaks', 'all'] as const) {
        const { totals, repair } = await check(path, level);
        expect(repair?.refusal).to.be.a('string');
        expect(totals.corruption).to.be.above(0);
        expect(readFileSync(path).equals(before)).to.equal(true);
      }
    });
  }

  it('keeps snapshots that are not counted also where the refcounts cannot tell of them', async () => {
    const { path } = withSnapshot();
    patchField(path, 'nbSnapshots', 0);
    patchNumber(path, Number(readField(path, 'refcountTableOffset')), 8, 1);
    const before = readFileSync(path);
    const { repair } = await check(path, 'all');
    expect(repair?.refusal).to.be.a('string');
    expect(readFileSync(path).equals(before)).to.equal(true);
  });

  it('is not kept from its work by the place of snapshots that are no more', async () => {
    const { image, path } = withSnapshot();
    const place = readField(path, 'snapshotsOffset');
    qemuImg(image.dir, ['snapshot', '-d', 'one', image.name]);
    patchField(path, 'snapshotsOffset', place);
    expect((await check(path)).totals).to.deep.equal({ corruption: 0, missing: 0, leak: 0, warning: 0 });
  });

  it('leaves no flag wrong that was right before, whatever else is corrupt', async () => {
    const { image, path } = withSnapshot();
    const lost = imagePath(withSnapshot().image);
    qemuImg(image.dir, ['snapshot', '-d', 'one', image.name]);
    // The refcounts of an image with a snapshot, in one without: all of the disk leaks.
    const table = Number(readNumber(path, Number(readField(path, 'refcountTableOffset')), 8));
    const other = Number(readNumber(lost, Number(readField(lost, 'refcountTableOffset')), 8));
    patchBytes(path, table, readBytes(lost, other, 64 * KiB));
    for (let at = 0; at < 4 * MiB; at += 64 * KiB) patchL2(path, at, readL2(path, at) & ~COPIED);
    patchL2(path, 0, readL2(path, 0) | RESERVED);
    const before = await check(path);
    expect(before.totals.leak).to.be.above(0);
    const { totals } = await check(path, 'leaks');
    expect(totals.leak).to.equal(0);
    expect(totals.corruption).to.be.at.most(before.totals.corruption);
    expect((await check(path, 'all')).totals.corruption).to.equal(0);
    expect(qemuCheck(image).status).to.equal(0);
  });
});
