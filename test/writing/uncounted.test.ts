/** Images of programs that do not count the clusters they take, as VirtualBox: no write replaces what is in use. */
import fs from 'node:fs';
import { expect } from 'chai';
import { Qcow2fsError } from '../../src/errors.js';
import { onNotice } from '../../src/notice.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { setRefcount } from '../check/damage/surgery.js';
import { hostOffset, patchL1, patchL2, patchNumber, readField, readL1, readL2 } from '../support/damage.js';
import { refcountBlocks } from '../support/dirty-images.js';
import {
  checkImage,
  checkSnapshot,
  convertToRaw,
  createImage,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  qemuIo,
  takeSnapshot,
} from '../support/images.js';
import { qemuCheck } from '../support/qemu-check.js';
import { useScratch } from '../support/scratch.js';

const COPIED = 1n << 63n;
const CLUSTER = 16 * KiB;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

/** Data in the first and in another L2 table. */
function withData(dir: string, spec: ImageSpec = {}): Image {
  const image = createImage(dir, { size: 48 * MiB, clusterSize: CLUSTER, ...spec });
  const commands = Array.from({ length: 20 }, (_, i) => `write -P ${i + 1} ${i * CLUSTER} ${CLUSTER}`);
  qemuIo(image, [...commands, 'write -P 77 40M 64k', 'write -P 78 30M 16k']);
  return image;
}

/** As if another program had added these clusters, and the L2 table of the last one. */
function uncount(path: string, guests: readonly number[], tables: readonly number[] = []): void {
  for (const guest of guests) {
    setRefcount(path, hostOffset(path, guest), 0);
    patchL2(path, guest, readL2(path, guest) & ~COPIED);
  }
  for (const index of tables) {
    setRefcount(path, Number(readL1(path, index) & OFFSET), 0);
    patchL1(path, index, readL1(path, index) & ~COPIED);
  }
}

const appended = Array.from({ length: 16 }, (_, i) => (i + 4) * CLUSTER);
/** Where the refcount table has no block any more, nothing is counted. */
const dropLastBlock = (path: string): void => {
  const { index } = refcountBlocks(path).at(-1)!;
  patchNumber(path, Number(readField(path, 'refcountTableOffset')) + 8 * index, 8, 0);
};

const KINDS: Record<string, { spec?: ImageSpec; uncount: (path: string) => void }> = {
  'data clusters': { uncount: (path) => uncount(path, appended) },
  'data clusters, still flagged as the disk’s own': {
    uncount: (path) => {
      for (const guest of appended) setRefcount(path, hostOffset(path, guest), 0);
    },
  },
  'an L2 table and its clusters': { uncount: (path) => uncount(path, [40 * MiB], [1]) },
  'clusters of version 2': { spec: { version: 2 }, uncount: (path) => uncount(path, appended) },
  'clusters with subclusters': {
    spec: { options: ['extended_l2=on'] },
    uncount: (path) => uncount(path, appended),
  },
  'clusters without a refcount block': { spec: { clusterSize: 512 }, uncount: dropLastBlock },
  'all clusters': {
    spec: { clusterSize: 4 * KiB },
    uncount: (path) => {
      for (const { index } of refcountBlocks(path)) {
        patchNumber(path, Number(readField(path, 'refcountTableOffset')) + 8 * index, 8, 0);
      }
    },
  },
  'refcount blocks themselves': {
    uncount: (path) => setRefcount(path, refcountBlocks(path)[0]!.offset, 0),
  },
};

describe('clusters that are in use but not counted', () => {
  const scratch = useScratch();
  afterEach(() => onNotice(() => {}));

  for (const [name, { spec = {}, uncount }] of Object.entries(KINDS)) {
    it(`${name}: are counted before the first write`, async () => {
      const image = withData(scratch.subdir(), spec);
      const path = imagePath(image);
      uncount(path);
      const shadow = fs.readFileSync(convertToRaw(image));
      const notices: string[] = [];
      onNotice((message) => notices.push(message));
      const disk = await openDisk(path, { writable: true });
      expect(notices.join()).to.match(/used more often than counted, from 0x[0-9a-f]+ on: .* repaired/);
      for (const [byte, offset, length] of [
        [0xa1, 10 * MiB, 64 * KiB],
        [0xa2, 10 * CLUSTER + 512, 1024],
        [0xa3, 40 * MiB + 5, 3000],
        [0xa4, 32 * MiB, 300 * KiB],
      ] as const) {
        disk.write(Buffer.alloc(length, byte), 0, length, offset);
        shadow.fill(byte, offset, offset + length);
      }
      disk.discard(7 * CLUSTER, CLUSTER);
      shadow.fill(0, 7 * CLUSTER, 8 * CLUSTER);
      disk.close();
      checkImage(image);
      expect(fs.readFileSync(convertToRaw(image)).equals(shadow), 'the reference reads it').to.equal(true);
    });
  }

  it('of a snapshot alone are kept, too', async () => {
    const image = withData(scratch.subdir());
    const path = imagePath(image);
    const old = hostOffset(path, 5 * CLUSTER);
    const taken = takeSnapshot(image, 'one', '1');
    qemuIo(image, ['write -P 99 0 1M']);
    setRefcount(path, old, 0);
    const disk = await openDisk(path, { writable: true });
    disk.write(Buffer.alloc(CLUSTER, 1), 0, CLUSTER, 20 * MiB);
    disk.close();
    checkImage(image);
    checkSnapshot(image, taken);
  });

  it('keep an image from being written where it cannot be told what is in use', async () => {
    const image = withData(scratch.subdir());
    const path = imagePath(image);
    uncount(path, appended);
    patchL2(path, 40 * MiB, readL2(path, 40 * MiB) | 0x200n);
    const before = fs.readFileSync(path);
    const failure = await openDisk(path, { writable: true }).catch((error) => error);
    expect(failure).to.be.instanceOf(Qcow2fsError);
    expect(failure.kind).to.equal('corrupt');
    expect(failure.message).to.match(
      /^[^\n]*clusters are used .* from 0x[^\n]* starts inside a cluster; .*-r$/,
    );
    expect(fs.readFileSync(path).equals(before), 'it is untouched').to.equal(true);
    (await openDisk(path)).close();
  });

  it('are not there in a sound image with free clusters, which is left alone', async () => {
    const image = withData(scratch.subdir());
    const path = imagePath(image);
    qemuIo(image, ['discard 32k 64k']);
    const before = fs.readFileSync(path);
    (await openDisk(path, { writable: true })).close();
    expect(fs.readFileSync(path).equals(before)).to.equal(true);
    expect(qemuCheck(image).status).to.equal(0);
  });
});
