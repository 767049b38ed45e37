/** What a check advises is nothing that the reference refuses. */

import { expect } from 'chai';
import { bitmapEntryOffset, bitmapsOf } from '../support/bitmaps.js';
import { patchField, patchL1, patchL2, patchNumber, readL2 } from '../support/damage.js';
import {
  checkImage,
  createImage,
  type Image,
  imagePath,
  MiB,
  qemuImg,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

describe('the advice of a check', () => {
  const scratch = useScratch();

  function withBitmap(): Image {
    const image = createImage(scratch.subdir(), { size: MiB });
    qemuImg(image.dir, ['bitmap', '--add', image.name, 'backup']);
    return image;
  }
  const check = async (image: Image): Promise<string> =>
    (await runInProcess(['check', imagePath(image)])).stdout;

  for (const [title, offset, width, value] of [
    ['a granularity of 256 bytes', 17, 1, 8],
    ['a table that is too large', 8, 4, 2],
    ['an unknown type', 16, 1, 2],
    ['reserved flags', 12, 4, 0x82],
  ] as const) {
    it(`is to copy an image that QEMU does not open for a bitmap with ${title}`, async () => {
      const image = withBitmap();
      patchNumber(imagePath(image), bitmapEntryOffset(image) + offset, width, value);
      expect(tryTool('qemu-img', 'bitmap', '--remove', imagePath(image), 'backup').status).to.equal(1);
      const said = await check(image);
      expect(said).to.contain('[bitmap]').and.to.contain('qcow2fs mount -r').and.to.not.contain('--remove');
      await expectInProcess(['hash', imagePath(image)]);
    });
  }

  it('is no repair where a table is lost, for every repair refuses that', async () => {
    const image = createImage(scratch.subdir(), { size: 2 ** 30 });
    const [first, second] = [0, 2 ** 29];
    for (const offset of [first, second]) writeSteps(image, 1, [{ do: 'data', offset, length: 65536 }]);
    const file = imagePath(image);
    patchL2(file, first, readL2(file, first) | (1n << 58n));
    expect(await check(image)).to.contain('check --repair all');
    patchL1(file, 1, (1n << 63n) | (1n << 40n));
    const said = await check(image);
    expect(said).to.contain('[reserved-bits]').and.to.contain('[leak]').and.to.contain('qcow2fs mount -r');
    expect(said).to.not.contain('--repair');
    for (const level of ['leaks', 'all']) {
      expect((await runInProcess(['check', '--repair', level, file])).stdout).to.contain('not repaired: ');
    }
    const { findings } = JSON.parse((await runInProcess(['check', '--json', file])).stdout);
    expect(new Set(findings.map(({ remedy }: { remedy: string }) => remedy))).to.deep.equal(
      new Set(['none']),
    );
  });

  it('is to remove a bitmap that was not saved', async () => {
    const image = withBitmap();
    patchNumber(imagePath(image), bitmapEntryOffset(image) + 12, 4, 3);
    expect(await check(image)).to.contain('qemu-img bitmap --remove');
    qemuImg(image.dir, ['bitmap', '--remove', image.name, 'backup']);
    checkImage(image);
  });

  it('is to add a bitmap where those that there were are lost', async () => {
    const image = withBitmap();
    patchField(imagePath(image), 'autoclearFeatures', 0);
    expect(await check(image)).to.contain('qemu-img bitmap --add');
    qemuImg(image.dir, ['bitmap', '--add', image.name, 'backup']);
    expect(bitmapsOf(image).map(({ flags }) => [...flags])).to.deep.equal([['auto']]);
    expect(await check(image)).to.not.contain('bitmaps-stale');
  });
});
