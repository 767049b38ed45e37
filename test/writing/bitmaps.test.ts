/** Persistent bitmaps follow every write, or say that they do not. QEMU reads them. */
import fs from 'node:fs';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { bitmapsOf, dirtyGranules } from '../support/bitmaps.js';
import {
  checkImage,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  qemuIo,
  takeSnapshot,
} from '../support/images.js';
import { RandomGuest, randomNumbers, type Target } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { targetOf } from '../support/target.js';
import { filled } from '../support/variant.js';

async function writing(image: Image, use: (disk: Disk) => void): Promise<void> {
  const disk = await openDisk(imagePath(image), { writable: true });
  try {
    use(disk);
  } finally {
    disk.close();
  }
}

/** A target that notes which granules change. */
function noting(target: Target, granularity: number, dirty: Set<number>): Target {
  const note = (offset: number, length: number): void => {
    for (let at = Math.floor(offset / granularity); at * granularity < offset + length; at++) dirty.add(at);
  };
  return {
    ...target,
    write: (source, length, offset) => {
      note(offset, length);
      target.write(source, length, offset);
    },
    discard: (offset, length) => {
      note(offset, length);
      target.discard(offset, length);
    },
    zero: (offset, length) => {
      note(offset, length);
      target.zero(offset, length);
    },
  };
}

describe('a persistent bitmap', () => {
  const scratch = useScratch();

  for (const [name, spec, granularity] of [
    ['of 64 KiB', {}, 64 * KiB],
    ['of a sector', { clusterSize: 512 }, 512],
    ['of 2 MiB', { clusterSize: 4 * KiB, size: 9 * MiB + 512 }, 2 * MiB],
    ['beside an extended L2 table', { options: ['extended_l2=on'] }, 4 * KiB],
  ] as const) {
    it(`${name} has a bit for every piece that was changed, and no other`, async () => {
      const image = createImage(scratch.subdir(), { size: 5 * MiB, ...spec });
      const add = ['bitmap', '--add', '-g', String(granularity), image.name, 'backup'];
      qemuImg(image.dir, add);
      const dirty = new Set<number>();
      qemuIo(image, ['write 64k 1']);
      dirty.add(Math.floor((64 * KiB) / granularity));
      const guest = new RandomGuest(Buffer.alloc(5 * MiB), randomNumbers(5));
      for (let round = 0; round < 3; round++) {
        await writing(image, (disk) => {
          const target = noting(targetOf(disk), granularity, dirty);
          for (let i = 0; i < 8; i++) guest.step(target);
        });
        checkImage(image);
        expect(bitmapsOf(image)[0]!.flags).to.deep.equal(['auto']);
        const read = await dirtyGranules(image, 'backup', granularity);
        expect(read).to.deep.equal([...dirty].sort((a, b) => a - b));
      }
      // QEMU goes on with it.
      qemuIo(image, ['write 1M 4k']);
      expect(bitmapsOf(image)[0]!.flags).to.deep.equal(['auto']);
      checkImage(image);
    });
  }

  it('is untouched when nothing is written', async () => {
    const image = filled(scratch.subdir(), {}, 1);
    qemuImg(image.dir, ['bitmap', '--add', image.name, 'backup']);
    const before = fs.readFileSync(imagePath(image));
    await writing(image, (disk) => disk.read(Buffer.alloc(512), 0, 512, 0));
    expect(fs.readFileSync(imagePath(image)).equals(before)).to.equal(true);
  });

  it('says that it is in use while the disk is written, so that a crash leaves none that lies', async () => {
    const image = filled(scratch.subdir(), {}, 1);
    qemuImg(image.dir, ['bitmap', '--add', image.name, 'backup']);
    await writing(image, (disk) => {
      disk.write(Buffer.alloc(512, 1), 0, 512, 0);
      disk.flush();
      const copy = { ...image, name: 'crashed.qcow2' };
      fs.copyFileSync(imagePath(image), imagePath(copy));
      expect(bitmapsOf(copy)[0]!.flags).to.include('in-use');
      checkImage(copy);
    });
    expect(bitmapsOf(image)[0]!.flags).to.deep.equal(['auto']);
  });

  it('that is disabled stays as it is', async () => {
    const image = filled(scratch.subdir(), {}, 1);
    qemuImg(image.dir, ['bitmap', '--add', '--disable', image.name, 'frozen']);
    qemuImg(image.dir, ['bitmap', '--add', image.name, 'live']);
    takeSnapshot(image, 'beside', '1');
    await writing(image, (disk) => disk.write(Buffer.alloc(512, 1), 0, 512, MiB));
    expect(bitmapsOf(image).map(({ name, flags }) => [name, [...flags]])).to.deep.equal([
      ['frozen', []],
      ['live', ['auto']],
    ]);
    expect(await dirtyGranules(image, 'frozen', 64 * KiB)).to.deep.equal([]);
    expect(await dirtyGranules(image, 'live', 64 * KiB)).to.deep.equal([16]);
    checkImage(image);
  });
});
