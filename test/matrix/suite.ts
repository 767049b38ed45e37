/**
 * Every kind of image that the reference tools can write: each is built once, and then read, mapped, hashed, checked
 * and written as a `Disk`; `make check` takes a few of them. How the same images look through the kernel and through libfuse: test/mount/conformance.
 */

import { lane } from '../support/lane.js';
import { pairwise } from '../support/pairwise.js';
import { expectPresented, openBuilt, presentDisk } from '../support/presented.js';
import { useScratch } from '../support/scratch.js';
import type { BuiltImage, Variant } from '../support/variant.js';
import { hugeVariants, writableVariants } from '../support/variants.js';
import {
  expectNotOpenedForWriting,
  expectWrittenAtRandom,
  expectWrittenFarAway,
  writeFarAway,
} from '../support/writes.js';
import { expectSound } from './check.js';
import { expectHashed } from './hash.js';
import { expectMapped, expectSnapshotMapped } from './map.js';

const HASH_THREADS = [1, 2, 3];

export function describeMatrix(title: string, variants: readonly Variant[]): void {
  describe(title, () => {
    const usual = variants.filter((variant) => !hugeVariants.includes(variant));
    const chosen = lane(variants, variants, pairwise(usual, 8));
    for (const [index, variant] of chosen.entries()) {
      describeVariant(variant, HASH_THREADS[index % HASH_THREADS.length]!);
    }
  });
}

function describeVariant(variant: Variant, threads: number): void {
  describe(variant.name, () => {
    const scratch = useScratch();
    let image: BuiltImage;

    before(() => {
      image = variant.build(scratch.subdir());
    });

    it('reads as the reference reads it', async () => {
      const disk = await openBuilt(image);
      try {
        expectPresented(presentDisk(disk), image);
      } finally {
        disk.close();
      }
    });

    it('maps as the reference maps it', async () => {
      await expectMapped(image);
      if (image.snapshot !== undefined) await expectSnapshotMapped(image, image.snapshot);
    });

    it('has the digest of what the reference reads', () => expectHashed(image, threads));

    it('is found as sound as the reference finds it', () => expectSound(image));

    if (variant.name.includes('marked corrupt')) {
      it('is not opened for writing', () => expectNotOpenedForWriting(image));
    } else if (hugeVariants.includes(variant)) {
      it('is written at far places', async () => {
        const disk = await openBuilt(image, true);
        const writes = writeFarAway(image, (bytes, offset) => disk.write(bytes, 0, bytes.length, offset));
        disk.close();
        expectWrittenFarAway(image, writes);
      });
    } else if (writableVariants.includes(variant)) {
      it('is clean after random writes, and reads as it was written', () => expectWrittenAtRandom(image));
    }
  });
}
