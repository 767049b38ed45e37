/** Random writes to every kind of image; afterwards the reference tools find it clean and read what was written. */
import fs from 'node:fs';
import path from 'node:path';
import { readSecret } from '../../src/cli/secret.js';
import type { Disk } from '../../src/disk.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { checkImage, convertToRaw } from '../support/images.js';
import { openMounted } from '../support/mounted-target.js';
import { mountArguments, mountWritable } from '../support/qcow2fs.js';
import { RandomGuest, randomNumbers } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { targetOf } from '../support/target.js';
import { threadCounts } from '../support/threads.js';
import { type BuiltImage, writableVariants } from '../support/variants.js';

/** A long run by hand: QCOW2FS_OPERATIONS=100000 QCOW2FS_SEED=7 make test TESTS='dist/test/writing/*.test.js' */
const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? 400);
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const REOPENINGS = 4;
/** One of so many operations is made through each transport, too. */
const MOUNTED_SHARE = 8;

function openWritable(image: BuiltImage): Promise<Disk> {
  const { secretFile, secretFormat = 'raw' } = image;
  const secret = secretFile === undefined ? undefined : readSecret(secretFile, secretFormat);
  return openDisk(image.image, { secret, writable: true });
}

interface Way {
  readonly name: string;
  readonly args: readonly string[];
  readonly erasing: number;
}

/** libfuse 2 knows no fallocate(2), and no threads. */
const LIBFUSE: Way = { name: 'the libfuse transport', args: ['--transport', 'libfuse'], erasing: 0 };

function waysFor(index: number): Way[] {
  const kernel = threadCounts(index).map((threads) => ({
    name: `the kernel transport, with --threads ${threads}`,
    args: ['--transport', 'kernel', '--threads', String(threads)],
    erasing: 0.25,
  }));
  return [...kernel, LIBFUSE];
}

describe('random writes', () => {
  for (const [index, variant] of writableVariants.entries()) {
    describe(variant.name, () => {
      const scratch = useScratch();
      let image: BuiltImage;
      let content: Buffer;

      before(() => {
        image = variant.build(scratch.dir);
        content = fs.readFileSync(image.expected);
      });

      /** Each test goes on with what the one before it left. */
      function expectContent(shadow: Buffer): void {
        checkImage(image.source);
        content = fs.readFileSync(convertToRaw(image.source, path.basename(image.expected)));
        if (!content.equals(shadow)) throw new Error('the reference reads something else');
      }

      it('leave a clean image that reads as it was written', async () => {
        const guest = new RandomGuest(content, randomNumbers(SEED));
        for (let round = 0; round < REOPENINGS; round++) {
          const disk = await openWritable(image);
          const target = targetOf(disk);
          for (let i = 0; i < OPERATIONS / REOPENINGS; i++) guest.step(target);
          guest.checkAll(target);
          disk.close();
          checkImage(image.source);
        }
        expectContent(guest.shadow);
      });

      for (const { name, args: ways, erasing } of waysFor(index)) {
        it(`do so through ${name}`, () => {
          const random = randomNumbers(SEED + 1);
          const guest = new RandomGuest(content, random, { erasing });
          const args = [...ways, ...mountArguments(image)];
          const { disk, unmount } = mountWritable(image.image, scratch.dir, args);
          const target = openMounted(disk, random);
          try {
            for (let i = 0; i < OPERATIONS / MOUNTED_SHARE; i++) guest.step(target);
            guest.checkAll(target);
          } finally {
            target.close();
          }
          unmount();
          expectContent(guest.shadow);
        });
      }
    });
  }
});
