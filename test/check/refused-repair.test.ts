/** A repair that cannot be brought to its end is not begun. */

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { l2EntryOffset, patchL1, patchNumber, readBytes, readL1, truncateImage } from '../support/damage.js';
import { createImage, GiB, imagePath, MiB, writeSteps } from '../support/images.js';
import { useScratch } from '../support/scratch.js';
import { check, kindsOf } from './request.js';

const COPIED = 1n << 63n;

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
