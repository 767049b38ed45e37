/** Persistent bitmaps of a disk that grows: as QEMU grows them, whatever a power cut leaves. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { allocateBitmaps } from '../../src/qcow2/writing/dirty-bitmaps.js';
import { bitmapEntryOffset, bitmapsOf, dirtyGranules } from '../support/bitmaps.js';
import { CrashingFile, SURVIVALS } from '../support/crash/disk.js';
import type { HostCall } from '../support/crash/files.js';
import { corruptionOf } from '../support/crash/oracle.js';
import { inMemory, openInMemory } from '../support/crash/recording.js';
import { patchNumber, readNumber } from '../support/damage.js';
import { sha256 } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  createRaw,
  GiB,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  qemuIo,
  takeSnapshot,
} from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { randomNumbers } from '../support/random-guest.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

/** So long that the entry behind it has its table in one sector, and its size in the next. */
const FROZEN = 'frozen'.padEnd(480, '-');
const LIVE = 'live';
const NAMES = [FROZEN, LIVE];
const NO_BITMAP = {
  name: 'b',
  inUse: false,
  flags: 2,
  entryOffset: 0,
  tableOffset: 0x50000,
  type: 1,
  extraDataSize: 0,
  nameBytes: 1,
  end: 32,
};
const RESIZABLE = { writable: true, resizable: true };

/** With a bitmap that follows, and one that is disabled, both of which know of a write. */
function withBitmaps(dir: string, spec: ImageSpec, granularity: number): Image {
  const image = createImage(dir, { size: MiB, ...spec });
  for (const name of NAMES) {
    qemuImg(dir, ['bitmap', '--add', '-g', String(granularity), image.name, name]);
  }
  qemuIo(image, ['write 700k 10k']);
  qemuImg(dir, ['bitmap', '--disable', image.name, FROZEN]);
  return image;
}

function copyOf(image: Image, name: string): Image {
  fs.copyFileSync(imagePath(image), `${image.dir}/${name}`);
  return { ...image, name };
}

async function dirtyOf(image: Image, granularity: number): Promise<Record<string, number[]>> {
  const found: Record<string, number[]> = {};
  for (const name of NAMES) found[name] = await dirtyGranules(image, name, granularity);
  return found;
}

/** Host offset of the entry of the last bitmap. */
const entryOf = (image: Image): number => bitmapEntryOffset(image) + 24 + FROZEN.length;

const tableOf = (image: Image): { offset: number; size: number } => ({
  offset: Number(readNumber(imagePath(image), entryOf(image), 8)),
  size: Number(readNumber(imagePath(image), entryOf(image) + 8, 4)),
});

describe('a persistent bitmap of a disk that grows', () => {
  const scratch = useScratch();

  for (const [name, spec, granularity, size, moves] of [
    ['within its table', {}, 64 * KiB, 9 * MiB + 512, false],
    ['and its table with it', { clusterSize: 512 }, 512, 9 * MiB, false],
    ['and its table finds another place', { clusterSize: 512 }, 512, 200 * MiB, true],
    ['within a bit', { size: MiB + 512 }, 2 * MiB, 2 * MiB, false],
    ['over a backing file', { backing: { file: 'base.raw', format: 'raw' } }, 4 * KiB, 2 * MiB, false],
  ] as const) {
    it(`grows ${name}, as QEMU does it`, async () => {
      const dir = scratch.subdir();
      createRaw(dir, 'base.raw', 2 * MiB, 7);
      const image = withBitmaps(dir, spec, granularity);
      const reference = copyOf(image, 'reference.qcow2');
      const before = tableOf(image);
      qemuIo(reference, ['write 10k 1k']);
      qemuImg(dir, ['resize', '-q', '-f', 'qcow2', reference.name, String(size)]);
      qemuIo(reference, [`write ${size - 5 * KiB} 2k`]);

      const disk = await openDisk(imagePath(image), RESIZABLE);
      disk.write(Buffer.alloc(KiB, 1), 0, KiB, 10 * KiB);
      disk.resize(size);
      disk.write(Buffer.alloc(2 * KiB, 1), 0, 2 * KiB, size - 5 * KiB);
      disk.close();

      checkImage(image);
      expect(bitmapsOf(image)).to.deep.equal(bitmapsOf(reference));
      expect(tableOf(image).size).to.equal(tableOf(reference).size);
      expect(tableOf(image).offset === before.offset).to.equal(!moves);
      expect(await dirtyOf(image, granularity)).to.deep.equal(await dirtyOf(reference, granularity));
    });
  }

  it('is untouched where a disk that may grow is only read', async () => {
    const image = withBitmaps(scratch.subdir(), {}, 64 * KiB);
    const before = fs.readFileSync(imagePath(image));
    const disk = await openDisk(imagePath(image), RESIZABLE);
    disk.read(Buffer.alloc(512), 0, 512, 0);
    disk.close();
    expect(fs.readFileSync(imagePath(image)).equals(before)).to.equal(true);
  });

  it('that was not saved stays so, and QEMU can remove it afterwards', async () => {
    const image = withBitmaps(scratch.subdir(), { clusterSize: 512 }, 512);
    patchNumber(imagePath(image), entryOf(image) + 12, 4, 3);
    const disk = await openDisk(imagePath(image), RESIZABLE);
    disk.resize(9 * MiB);
    disk.close();
    checkImage(image);
    expect(bitmapsOf(image).map(({ flags }) => [...flags])).to.deep.equal([[], ['in-use', 'auto']]);
    qemuImg(image.dir, ['bitmap', '--remove', image.name, LIVE]);
    qemuImg(image.dir, ['resize', '-q', image.name, '10M']);
    checkImage(image);
  });

  it('that cannot grow as far keeps the disk as large as it is, and goes on following it', async () => {
    const image = withBitmaps(scratch.subdir(), {}, 512);
    const disk = await openDisk(imagePath(image), RESIZABLE);
    expect(() => disk.resize(17 * GiB))
      .to.throw(Qcow2fsError, /bitmap \S+ cannot track a disk of \d+ bytes; unmount, mount again and repeat/)
      .with.property('kind', 'too-large');
    expect(disk.size).to.equal(MiB);
    disk.resize(16 * GiB);
    disk.write(Buffer.alloc(512, 1), 0, 512, 15 * GiB);
    disk.close();
    checkImage(image);
    expect(await dirtyGranules(image, LIVE, 512)).to.include((15 * GiB) / 512);
    const larger = await openDisk(imagePath(image), RESIZABLE);
    larger.resize(17 * GiB);
    larger.close();
    checkImage(image);
    expect(bitmapsOf(image).map(({ flags }) => [...flags])).to.deep.equal([[], ['auto']]);
  });

  for (const [title, size] of [
    ['grows', 9 * MiB],
    ['moves', 140 * MiB],
  ] as const) {
    it(`whose table ${title} is right or says that it is not, whenever the power goes`, async () => {
      const image = withBitmaps(scratch.subdir(), { clusterSize: 512 }, 512);
      const file = imagePath(image);
      const before = fs.readFileSync(file);
      const unchanged = sha256(convertToRaw(image));
      const log: HostCall[] = [];
      const disk = await openInMemory(image, inMemory(new Map([[file, before]])), RESIZABLE, (call) => {
        if (call.do !== 'read') log.push(call);
      });
      // In place, and where the bitmap has no clear bit.
      disk.write(Buffer.alloc(KiB, 1), 0, KiB, 703 * KiB);
      disk.resize(size);
      disk.write(Buffer.alloc(KiB, 1), 0, KiB, size - MiB);
      const closing = log.length;
      disk.close();

      const copy = copyOf(image, 'cut.qcow2');
      const random = randomNumbers(1);
      const crashing = new CrashingFile(before);
      const trusted = new Map<boolean, Record<string, number[]>>();
      const seen = new Set<string>();
      for (let cut = 0; cut <= log.length; cut++) {
        for (const survival of [() => () => true, ...SURVIVALS]) {
          const content = crashing.afterCut(survival(random));
          const hash = createHash('sha1').update(content).digest('hex');
          if (seen.has(hash)) continue;
          seen.add(hash);
          fs.writeFileSync(imagePath(copy), content);
          expect(corruptionOf(copy), `cut after call ${cut} of ${log.length}`).to.equal(undefined);
          const isTrusted = bitmapsOf(copy).every(({ flags }) => !flags.includes('in-use'));
          if (!isTrusted) expect(cut).to.be.below(log.length);
          else if (!trusted.has(cut < closing)) trusted.set(cut < closing, await dirtyOf(copy, 512));
          if (isTrusted && cut < closing) expect(sha256(convertToRaw(copy))).to.equal(unchanged);
        }
        if (cut < log.length) crashing.advance(log[cut]!);
      }
      expect(seen.size).to.be.above(30);
      const old = granules(700 * KiB, 10 * KiB);
      const all = [...old, ...granules(size - MiB, KiB)];
      expect(trusted.get(true)).to.deep.equal({ [LIVE]: old, [FROZEN]: old });
      expect(trusted.get(false)).to.deep.equal({ [LIVE]: all, [FROZEN]: old });
    });
  }
});

describe('an image that may not grow', () => {
  const scratch = useScratch();

  it('may once it is of version 3, as the refusal says', async () => {
    const image = createImage(scratch.subdir(), { size: MiB, version: 2 });
    takeSnapshot(image, 'before', '1');
    const { stderr } = await runInProcess(['mount', '-f', '--resizable', imagePath(image), scratch.subdir()]);
    run('sh', ['-c', /qemu-img amend .*(?=, or)/.exec(stderr)![0]]);
    const disk = await openDisk(imagePath(image), RESIZABLE);
    disk.resize(2 * MiB);
    disk.close();
    checkImage(image);
    const snapshot = await openDisk(imagePath(image), { snapshot: 'before' });
    expect(snapshot.size).to.equal(MiB);
    snapshot.close();
  });
});

describe('bitmaps that an image names too often', () => {
  it('take a limited room', () => {
    const bitmap = { ...NO_BITMAP, tableSize: 1, granularity: 65536, auto: true };
    const tooLarge = { ...bitmap, tableSize: 1025, granularity: 512 };
    for (const growing of [false, true]) {
      const kept = allocateBitmaps(Array(5000).fill(bitmap), 32 * GiB, 65536, growing).map(
        ({ changed }) => changed?.maxByteLength ?? 0,
      );
      expect(kept).to.have.length(5000);
      const [given] = allocateBitmaps([tooLarge], 256 * GiB + 512, 65536, growing);
      expect(given?.changed).to.equal(undefined);
      expect(kept.reduce((sum, bytes) => sum + bytes))
        .to.be.at.most(GiB)
        .and.above(256 * MiB);
    }
  });
});

/** Of a sector each. */
function granules(offset: number, length: number): number[] {
  return Array.from({ length: length / 512 }, (_, i) => offset / 512 + i);
}
