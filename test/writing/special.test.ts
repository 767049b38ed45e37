/** Writes that make tables grow, stay beside snapshots, change the size of the disk, or take turns with QEMU. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { Qcow2fsError } from '../../src/errors.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { DAMAGE } from '../check/damage.js';
import { CrashingFile } from '../support/crash/disk.js';
import { MemoryFile, type Witness, WitnessedStorage } from '../support/crash/files.js';
import { record } from '../support/crash/recording.js';
import {
  checkImage,
  checkSnapshot,
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  qemuIo,
  resize,
  takeSnapshot,
} from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { lane } from '../support/lane.js';
import { RandomGuest, randomNumbers } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { targetOf } from '../support/target.js';
import { filled } from '../support/variant.js';

const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? lane(400, 2000));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);

interface ImageInfo {
  readonly 'virtual-size': number;
}

const infoOf = (image: Image): ImageInfo =>
  JSON.parse(qemuImg(image.dir, ['info', '--output=json', image.name])) as ImageInfo;

async function writing(image: Image, use: (disk: Disk) => void, resizable = false): Promise<void> {
  const disk = await openDisk(imagePath(image), { writable: true, resizable });
  try {
    use(disk);
  } finally {
    disk.close();
  }
}

function expectContent(image: Image, shadow: Buffer): void {
  checkImage(image);
  const read = fs.readFileSync(convertToRaw(image));
  expect(read.length).to.equal(shadow.length);
  if (!read.equals(shadow)) throw new Error('the reference reads something else');
}

describe('writes that outgrow the refcount table', () => {
  const scratch = useScratch();
  for (const [clusterSize, bits, size] of [
    [512, 64, 6 * MiB],
    [512, 16, 6 * MiB],
    [KiB, 64, 20 * MiB],
  ] as const) {
    it(`of ${clusterSize} B clusters and ${bits}-bit counts give it more room`, async () => {
      const image = createImage(scratch.subdir(), {
        size,
        clusterSize,
        options: [`refcount_bits=${bits}`],
      });
      const guest = new RandomGuest(Buffer.alloc(size), randomNumbers(SEED), { erasing: 0.05 });
      const before = fs.readFileSync(imagePath(image)).readUInt32BE(56);
      await writing(image, (disk) => {
        const target = targetOf(disk);
        for (let i = 0; i < OPERATIONS; i++) guest.step(target);
        guest.checkAll(target);
      });
      if (bits === 64) expect(fs.readFileSync(imagePath(image)).readUInt32BE(56)).to.be.above(before);
      expectContent(image, guest.shadow);
    });
  }
});

describe('writes beside snapshots', () => {
  const scratch = useScratch();
  for (const [name, options] of [
    ['of a v3 image', {}],
    ['of a v2 image', { version: 2 as const }],
    ['of an image with small clusters', { clusterSize: 4 * KiB }],
    ['of an extended L2 image', { options: ['extended_l2=on'] }],
  ] as const) {
    it(`${name} leave every snapshot as it was`, async () => {
      const image = filled(scratch.subdir(), { size: 3 * MiB, ...options }, 1);
      const taken = [takeSnapshot(image, 'first', '1')];
      const guest = new RandomGuest(fs.readFileSync(convertToRaw(image)), randomNumbers(SEED));
      for (const id of ['2', '3', '4']) {
        await writing(image, (disk) => {
          const target = targetOf(disk);
          for (let i = 0; i < OPERATIONS / 8; i++) guest.step(target);
          guest.checkAll(target);
        });
        checkImage(image);
        for (const snapshot of taken) checkSnapshot(image, snapshot);
        taken.push(takeSnapshot(image, `snapshot ${id}`, id));
      }
      expectContent(image, guest.shadow);
      for (const snapshot of taken) {
        qemuImg(image.dir, ['snapshot', '-d', snapshot.name, image.name]);
        checkImage(image);
      }
      expectContent(image, guest.shadow);
    });
  }
});

describe('writes that take turns with QEMU', () => {
  const scratch = useScratch();
  it('leave the image clean after every turn', async () => {
    const image = filled(scratch.dir, { size: 4 * MiB, clusterSize: 8 * KiB }, 1);
    const guest = new RandomGuest(fs.readFileSync(convertToRaw(image)), randomNumbers(SEED));
    const random = randomNumbers(SEED + 1);
    for (let turn = 0; turn < 12; turn++) {
      await writing(image, (disk) => {
        const target = targetOf(disk);
        for (let i = 0; i < OPERATIONS / 12; i++) guest.step(target);
      });
      checkImage(image);
      const commands = Array.from({ length: 10 }, () => {
        const offset = Math.floor(random() * 4000) * 1024;
        const length = 1024 + Math.floor(random() * 40) * 1024;
        const byte = 1 + Math.floor(random() * 254);
        const end = Math.min(offset + length, 4 * MiB);
        const erase = random() < 0.3;
        guest.shadow.fill(erase ? 0 : byte, offset, end);
        return erase ? `write -z -u ${offset} ${end - offset}` : `write -P ${byte} ${offset} ${end - offset}`;
      });
      qemuIo(image, commands);
    }
    expectContent(image, guest.shadow);
  });
});

describe('an image on a block device', () => {
  const scratch = useScratch();
  it('takes no cluster into use that the device has only a part of', async () => {
    const image = createImage(scratch.dir, { size: 4 * MiB });
    const [start, room] = [fs.readFileSync(imagePath(image)), MiB + 32 * KiB];
    const device = new MemoryFile(Buffer.concat([start, Buffer.alloc(room - (start.length % (64 * KiB)))]));
    const end = device.size;
    const refuseBeyond: Witness = (call) => {
      if (call.do === 'write' && call.position + call.bytes.length > end)
        throw new Error('beyond the device');
    };
    const disk = await openDisk(
      imagePath(image),
      { writable: true },
      ({ path, fd }) =>
        new WitnessedStorage(path, device, refuseBeyond, {
          extensible: false,
          close: () => fs.closeSync(fd),
        }),
    );
    const cluster = Buffer.alloc(64 * KiB, 0x55);
    const begun: number[] = [];
    const begin = (): void => {
      for (let offset = 0; offset < disk.size; offset += cluster.length) {
        disk.write(cluster, 0, 512, offset);
        begun.push(offset);
      }
    };
    expect(begin).to.throw(Qcow2fsError, 'the device is full').with.property('kind', 'no-space');
    // What was begun can be finished.
    expect(begun.length).to.be.above(10);
    for (const offset of begun) disk.write(cluster, 0, cluster.length, offset);
    disk.close();
    fs.writeFileSync(imagePath(image), device.content);
    const shadow = Buffer.alloc(4 * MiB);
    for (const offset of begun) cluster.copy(shadow, offset);
    expectContent(image, shadow);
  });
});

describe('a disk that grows', () => {
  const scratch = useScratch();
  for (const [name, spec] of [
    ['with 64 KiB clusters', {}],
    ['with 512 B clusters, and its L1 table with it', { clusterSize: 512 }],
    ['as version 2', { version: 2 as const }],
    ['with extended L2', { options: ['extended_l2=on'] }],
    ['with a raw external data file', { options: ['data_file=data.raw', 'data_file_raw=on'] }],
  ] as const) {
    it(`${name} reads as zeros where it is new`, async () => {
      const size = 300 * KiB + 512;
      const image = createImage(scratch.subdir(), { size, ...spec });
      let guest = new RandomGuest(Buffer.alloc(size), randomNumbers(SEED));
      const random = randomNumbers(SEED + 2);
      for (let round = 0; round < 6; round++) {
        await writing(
          image,
          (disk) => {
            for (let i = 0; i < 40; i++) guest.step(targetOf(disk));
            const grown = disk.size + 512 * (1 + Math.floor(random() * 4000));
            disk.resize(grown);
            expect(disk.size).to.equal(grown);
            const shadow = Buffer.concat([guest.shadow, Buffer.alloc(grown - guest.shadow.length)]);
            guest = new RandomGuest(shadow, random);
            guest.checkAll(targetOf(disk));
            for (let i = 0; i < 40; i++) guest.step(targetOf(disk));
          },
          true,
        );
        expect(infoOf(image)['virtual-size']).to.equal(guest.shadow.length);
        expectContent(image, guest.shadow);
      }
      if (name.includes('raw external')) {
        const raw = fs.readFileSync(path.join(image.dir, 'data.raw'));
        expect(raw.equals(guest.shadow), 'the data file shows the disk').to.equal(true);
      }
    });
  }

  it('hides what a longer backing file has there', async () => {
    const dir = scratch.subdir();
    const base = filled(dir, { name: 'base.qcow2', size: 4 * MiB }, 1);
    const image = createImage(dir, {
      size: MiB + 512,
      backing: { file: base.name, format: 'qcow2' },
    });
    const shadow = fs.readFileSync(convertToRaw(image));
    await writing(image, (disk) => disk.resize(3 * MiB), true);
    expectContent(image, Buffer.concat([shadow, Buffer.alloc(3 * MiB - shadow.length)]));
  });

  it('keeps its snapshots', async () => {
    const image = filled(scratch.subdir(), { size: 2 * MiB, clusterSize: 512 }, 1);
    const taken = takeSnapshot(image, 'small', '1');
    const shadow = fs.readFileSync(taken.expected);
    await writing(image, (disk) => disk.resize(5 * MiB), true);
    checkSnapshot(image, taken);
    expectContent(image, Buffer.concat([shadow, Buffer.alloc(3 * MiB)]));
  });

  const refused = async (image: Image, why: string): Promise<void> => {
    const before = fs.readFileSync(imagePath(image));
    await writing(image, (disk) => expect(() => disk.resize(8 * MiB)).to.throw(why));
    expect(fs.readFileSync(imagePath(image)).equals(before), 'the image is untouched').to.equal(true);
  };

  it('is refused without being asked for, with the reason why it cannot be', async () => {
    await refused(createImage(scratch.subdir(), { size: MiB }), 'mount it with --resizable');
    const old = createImage(scratch.subdir(), { size: MiB, version: 2 });
    takeSnapshot(old, 'one', '1');
    await refused(old, 'version 2 images with snapshots cannot grow');
  });

  it('is refused where the state of a virtual machine lies behind its end', async () => {
    const image = createImage(scratch.subdir(), { size: 2 * MiB, clusterSize: 512 });
    // As QEMU does for savevm: behind the end of the disk, in an L1 table that grows.
    qemuIo(image, ['write -q -b -P 0x55 0 64k']);
    for (const size of [2 * MiB + 64 * KiB, 8 * MiB]) {
      const before = fs.readFileSync(imagePath(image));
      const grow = (disk: Disk): void =>
        void expect(() => disk.resize(size)).to.throw('the state of a virtual machine');
      await writing(image, grow, true);
      expect(fs.readFileSync(imagePath(image)).equals(before), 'the image is untouched').to.equal(true);
    }
  });

  it('is refused with a snapshot that would grow along, because it does not tell its size', async () => {
    const { base, damage } = DAMAGE['snapshots that do not tell their disk size']!;
    const image = base(scratch.subdir());
    damage(imagePath(image));
    await refused(image, 'a snapshot that has no disk size of its own cannot grow');
    await expectInProcess(['check', '--repair', 'all', imagePath(image)]);
    await writing(image, (disk) => disk.resize(8 * MiB), true);
  });

  it('shows nothing of earlier writes when QEMU makes it grow', async () => {
    const size = 8 * 64 * KiB + 1024;
    const image = createImage(scratch.subdir(), { size });
    await writing(image, (disk) => {
      const cluster = Buffer.alloc(64 * KiB, 0x55);
      for (const offset of [0, 64 * KiB]) disk.write(cluster, 0, cluster.length, offset);
      disk.discard(0, 2 * cluster.length);
      disk.flush();
      // Two clusters that held something before are filled up around what is written.
      disk.write(cluster, 0, cluster.length - 512, 64 * KiB);
      disk.write(cluster, 0, 512, size - 1024);
    });
    const shadow = fs.readFileSync(convertToRaw(image));
    resize(image, 2 * size);
    expectContent(image, Buffer.concat([shadow, Buffer.alloc(size)]));
  });

  it('shows nothing of a longer raw data file, whenever the power goes', async () => {
    const options = ['data_file=data.raw', 'data_file_raw=on'];
    const image = createImage(scratch.subdir(), { size: MiB, options });
    const [path, data] = [imagePath(image), `${image.dir}/data.raw`];
    fs.appendFileSync(data, Buffer.alloc(MiB, 0xdd));
    const crashImage = { image, files: [path, data], clusterSize: 64 * KiB, growth: MiB };
    const { before, log } = await record(crashImage, [{ do: 'resize', size: 1.5 * MiB }, { do: 'flush' }]);
    const files = new Map([...before].map(([name, bytes]) => [name, new CrashingFile(bytes)]));
    for (const { path: name, call } of log) {
      files.get(name)!.advance(call);
      const size = Number(
        files
          .get(path)!
          .afterCut(() => true)
          .readBigUInt64BE(24),
      );
      const shown = files.get(data)!.afterCut(() => false);
      expect(
        shown.subarray(MiB, size).every((byte) => byte === 0),
        `after ${call.do}`,
      ).to.equal(true);
    }
    expect(log.length).to.be.above(2);
  });

  it('never shrinks', async () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    await writing(image, (disk) => expect(() => disk.resize(512)).to.throw('smaller'), true);
  });

  it('stops where the L1 table ends', async () => {
    const image = createImage(scratch.subdir(), { size: MiB, clusterSize: 512 });
    await writing(image, (disk) => expect(() => disk.resize(2 ** 40)).to.throw('cannot map'), true);
    checkImage(image);
  });
});
