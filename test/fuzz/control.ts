/** The control: images that nobody damaged read as QEMU reads them, before and after a few writes. */
import { join } from 'node:path';
import type { Disk } from '../../src/disk.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { Finding } from './finding.js';
import { IMAGE, restoreSeed, type Seed } from './seeds.js';
import { unsynced } from './target-image.js';

/** @throws Finding `content` */
export async function checkSound(seed: Seed): Promise<void> {
  if (seed.expected === undefined) return;
  restoreSeed(seed);
  const image = join(seed.dir, IMAGE);
  const options = { secret: seed.secret };
  const expected = Buffer.from(seed.expected);
  const disk = await openDisk(image, { ...options, writable: true }, unsynced);
  compare(disk, expected, seed.name);
  const data = Buffer.alloc(70_000, 0x77);
  disk.write(data, 0, data.length, 12_345);
  data.copy(expected, 12_345);
  disk.zero(700_000, 50_000);
  expected.fill(0, 700_000, 750_000);
  disk.discard(300 * 1024, 200_000);
  expected.fill(0, 300 * 1024, 300 * 1024 + 200_000);
  compare(disk, expected, seed.name);
  disk.close();
  const again = await openDisk(image, options, unsynced);
  compare(again, expected, seed.name);
  again.close();
  restoreSeed(seed);
}

function compare(disk: Disk, expected: Buffer, seed: string): void {
  const content = Buffer.alloc(disk.size);
  disk.read(content, 0, disk.size, 0);
  if (!content.equals(expected)) throw new Finding('content', seed, 'a sound image reads as another');
}
