/** L1 tables beyond the end of the file: what can be read is read, and one line says so. */

import { expect } from 'chai';
import { patchField, patchNumber, readField, readNumber, truncateImage } from '../support/damage.js';
import { sha256 } from '../support/files.js';
import {
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  type Step,
  writeSteps,
} from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { useScratch } from '../support/scratch.js';

const DATA: readonly Step[] = [{ do: 'data', offset: 0, length: 64 * KiB }];
const L1_SAYS =
  /^qcow2fs: \S+image\.qcow2: the L1 table at 0x[0-9a-f]+ lies outside the file; nothing was ever/;

/** An overlay to which nothing was written yet, on a base that holds something. */
function freshOverlay(dir: string): Image {
  writeSteps(createImage(dir, { name: 'base.qcow2', size: 2 * MiB }), 1, DATA);
  return createImage(dir, { size: 2 * MiB, backing: { file: 'base.qcow2', format: 'qcow2' } });
}

const cutBeforeL1 = (image: string): void => truncateImage(image, Number(readField(image, 'l1TableOffset')));

/** As go-qcow2 makes them: a table that was neither written nor counted. */
function placeL1Beyond(image: string): void {
  const block = Number(readNumber(image, Number(readField(image, 'refcountTableOffset')), 8));
  patchNumber(image, block + 2 * (Number(readField(image, 'l1TableOffset')) / (64 * KiB)), 2, 0);
  cutBeforeL1(image);
  patchField(image, 'l1TableOffset', 0x70000);
}

describe('an L1 table beyond the end of the file', () => {
  const scratch = useScratch();

  for (const [title, damage] of [
    ['that was cut off', cutBeforeL1],
    ['that nobody wrote or counted', placeL1Beyond],
  ] as const) {
    it(`${title} counts as empty where nothing was ever written to the disk`, async () => {
      const image = freshOverlay(scratch.subdir());
      damage(imagePath(image));
      const { status, stdout, stderr } = await runInProcess(['hash', imagePath(image)]);
      expect([status, stdout]).to.deep.equal([0, `${sha256(convertToRaw(image))}  disk.raw\n`]);
      expect(stderr)
        .to.match(L1_SAYS)
        .and.to.match(/^[^\n]+\n$/);
      for (const command of ['info', 'map']) {
        const told = await runInProcess([command, imagePath(image)]);
        expect(told.status, command).to.equal(0);
        expect(told.stderr, command).to.match(L1_SAYS);
      }
      const check = await runInProcess(['check', imagePath(image)]);
      expect(check.status).to.equal(4);
      expect(check.stdout).to.match(/the L1 table at .* the file\n.*qcow2fs mount -r/);
    });
  }

  const onlyUncounted = (image: string): void => {
    const block = Number(readNumber(image, Number(readField(image, 'refcountTableOffset')), 8));
    for (let cluster = 4; cluster < 16; cluster++) patchNumber(image, block + 2 * cluster, 2, 0);
    patchField(image, 'l1TableOffset', 1n << 40n);
  };
  const onlyUnclosed = (image: string): void => {
    cutBeforeL1(image);
    patchField(image, 'incompatibleFeatures', 1);
  };
  for (const [title, steps, damage] of [
    ['the refcounts know of data', DATA, cutBeforeL1],
    ['the file has room for data', DATA, onlyUncounted],
    ['the image was not closed', [], onlyUnclosed],
  ] as const) {
    it(`is lost where ${title}`, async () => {
      const image = createImage(scratch.subdir(), { size: 2 * MiB });
      if (steps.length > 0) writeSteps(image, 1, steps);
      damage(imagePath(image));
      const { status, stdout, stderr } = await runInProcess(['hash', '--json', imagePath(image)]);
      expect(status).to.equal(4);
      expect(JSON.parse(stdout).unreadable.bytes).to.equal(2 * MiB);
      expect(stderr).to.contain('from entry 0 on: the disk cannot be read from 0x0 on');
      const map = await runInProcess(['map', '--json', imagePath(image)]);
      expect(JSON.parse(map.stdout).totals[0].damaged).to.equal(2 * MiB);
    });
  }
});
