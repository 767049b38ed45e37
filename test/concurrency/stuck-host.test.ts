/** One request that the host does not answer holds up nothing else, and does in the end what it is for. */
import { once } from 'node:events';
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { onNotice } from '../../src/notice.js';
import { attachDisk, openLayers } from '../../src/qcow2/chain.js';
import {
  checkImage,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuIo,
  removeLeaks,
  writeSecret,
} from '../support/images.js';
import { useScratch } from '../support/scratch.js';
import { GATED_BYTE, type GatedUse } from './gated-worker.js';
import type { PartWriter } from './part-writer.js';

const CLUSTER = 64 * KiB;
const L2_SLICE = 4096;
/** Mapped by another L2 table. */
const FAR = 600 * MiB;

function build(dir: string): Image {
  const image = createImage(dir, { size: 1024 * MiB });
  qemuIo(image, ['write -P 1 0 64k', 'write -P 2 1M 64k', `write -P 3 ${FAR} 64k`]);
  return image;
}

/** Lets the host go on when somebody waits for the exclusive lock of the image (`RwLock`, word 1). */
const OPENER = `
  const { lock, gate } = require('node:worker_threads').workerData;
  const [words, open] = [new Int32Array(lock), new Int32Array(gate)];
  while (Atomics.load(open, 0) === 0 && Atomics.load(words, 1) === 0) Atomics.wait(open, 0, 0, 1);
  Atomics.store(open, 0, 1);
  Atomics.notify(open, 0);
`;

type Gated = Pick<GatedUse, 'use' | 'length' | 'hangs'>;

const READ: Gated = { use: 'read', length: CLUSTER, hangs: { call: 'read', length: CLUSTER } };

/** Uses the disk while another thread hangs in the host. @returns what that one has read or written in the end */
async function besideStuck(
  image: Image,
  writable: boolean,
  gated: Gated,
  use: (disk: Disk) => void,
  after: (disk: Disk) => void = () => {},
  until: 'use has ended' | 'somebody waits' = 'use has ended',
): Promise<Buffer> {
  const secret = image.secret && fs.readFileSync(image.secret.file);
  const layers = openLayers(imagePath(image), { writable, ...(secret && { secret }) });
  const disk = await attachDisk(layers);
  // What comes before the first change needs the lock.
  if (gated.use === 'write') disk.write(Buffer.alloc(512, 3), 0, 512, FAR);
  const gate = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const workerData: GatedUse = { layers, gate, ...gated };
  const worker = new Worker(new URL('./gated-worker.js', import.meta.url), { workerData });
  const exit = once(worker, 'exit');
  await once(worker, 'message');
  const answer = once(worker, 'message');
  if (until === 'somebody waits') {
    const { lock } = layers[0].parameters.metadata;
    await once(new Worker(OPENER, { eval: true, workerData: { lock, gate } }), 'online');
  }
  try {
    use(disk);
  } finally {
    Atomics.store(new Int32Array(gate), 0, 1);
    Atomics.notify(new Int32Array(gate), 0);
  }
  const [content] = (await answer) as [Uint8Array];
  await exit;
  after(disk);
  disk.close();
  return Buffer.from(content);
}

function expectByte(disk: Disk, offset: number, byte: number): void {
  const bytes = Buffer.alloc(512);
  disk.read(bytes, 0, 512, offset);
  expect(
    bytes.every((value) => value === byte),
    `at ${offset}`,
  ).to.equal(true);
}

describe('a read that hangs', () => {
  const scratch = useScratch();

  it('lets others read what is cached and what is not', async () => {
    const image = build(scratch.subdir());
    const content = await besideStuck(image, false, READ, (disk) => {
      expectByte(disk, MiB, 2);
      expectByte(disk, FAR, 3);
    });
    expect(content.equals(Buffer.alloc(CLUSTER, 1))).to.equal(true);
  });

  it('of a table lets others read, write and flush, and finds what they made of it', async () => {
    const image = build(scratch.subdir());
    const use = (disk: Disk): void => {
      expectByte(disk, FAR, 3);
      expectByte(disk, MiB, 2);
      disk.write(Buffer.alloc(512, 4), 0, 512, FAR);
      disk.discard(0, CLUSTER);
      disk.flush();
      disk.write(Buffer.alloc(CLUSTER, 5), 0, CLUSTER, 0);
      disk.flush();
    };
    const content = await besideStuck(
      image,
      true,
      { ...READ, hangs: { call: 'read', length: L2_SLICE } },
      use,
    );
    expect(content.equals(Buffer.alloc(CLUSTER, 5))).to.equal(true);
    checkImage(image);
  });

  it('lets others write and flush, and keeps the cluster that it reads until it ends', async () => {
    const image = build(scratch.subdir());
    const content = await besideStuck(image, true, READ, (disk) => {
      disk.discard(0, CLUSTER);
      disk.flush();
      disk.write(Buffer.alloc(8 * CLUSTER, 9), 0, 8 * CLUSTER, 8 * MiB);
      disk.flush();
      expectByte(disk, 0, 0);
      expectByte(disk, 8 * MiB, 9);
      expectByte(disk, FAR, 3);
    });
    expect(content.equals(Buffer.alloc(CLUSTER, 1))).to.equal(true);
    // The last flush gave the cluster back.
    checkImage(image);
  });
});

describe('a read that hangs while thousands of clusters are given up', () => {
  const scratch = useScratch();
  afterEach(() => onNotice(() => {}));

  it('lets others go on, and leaves clusters counted that nothing uses', async () => {
    const cluster = 512;
    const image = createImage(scratch.subdir(), { size: 10 * MiB, clusterSize: cluster });
    qemuIo(image, ['write -P 1 0 10M']);
    const notices: string[] = [];
    onNotice((message) => notices.push(message));
    const length = 3 * cluster;
    const gated: Gated = { use: 'read', length, hangs: { call: 'read', length } };
    await besideStuck(image, true, gated, (disk) => {
      // Every second one: no two of them are one run.
      for (let at = 8 * cluster; at < 9 * MiB; at += 2 * cluster) disk.discard(at, cluster);
      disk.flush();
    });
    expect(notices).to.have.length(1);
    expect(notices[0]).to.match(/: the host does not answer, so clusters .* qcow2fs check --repair leaks$/);
    removeLeaks(image);
  });
});

describe('a host that answers', () => {
  const scratch = useScratch();
  afterEach(() => onNotice(() => {}));

  it('is not taken for one that hangs by threads that wait for each other', async () => {
    const clusterSize = 512;
    const dir = scratch.subdir();
    qemuIo(createImage(dir, { name: 'base', size: 48 * MiB, clusterSize }), ['write -P 1 0 48M']);
    const backing = { file: 'base', format: 'qcow2' } as const;
    const image = createImage(dir, { size: 48 * MiB, clusterSize, backing });
    qemuIo(image, ['write -P 2 0 20M']);
    const notices: string[] = [];
    onNotice((message) => notices.push(message));
    const layers = openLayers(imagePath(image), { writable: true });
    const disk = await attachDisk(layers);
    const stop = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    const ends = [20, 34].map(async (start) => {
      const [from, to] = [start * MiB, (start + 14) * MiB];
      const workerData: PartWriter = { layers, stop, from, to, clusterSize };
      const worker = new Worker(new URL('./part-writer.js', import.meta.url), { workerData });
      const exit = once(worker, 'exit');
      await once(worker, 'message');
      return { exit };
    });
    const workers = await Promise.all(ends);
    for (let at = 0; at < 20 * MiB; at += 2 * clusterSize) disk.discard(at, clusterSize);
    disk.flush();
    Atomics.store(new Int32Array(stop), 0, 1);
    for (const { exit } of workers) await exit;
    disk.close();
    expect(notices).to.deep.equal([]);
    checkImage(image);
  });
});

describe('a write that hangs', () => {
  const scratch = useScratch();

  it('lets others read, write and flush, and reaches no cluster that is used anew', async () => {
    const image = build(scratch.subdir());
    await besideStuck(
      image,
      true,
      { use: 'write', length: CLUSTER, hangs: { call: 'write', length: CLUSTER } },
      (disk) => {
        expectByte(disk, MiB, 2);
        disk.write(Buffer.alloc(512, 4), 0, 512, MiB);
        disk.discard(0, CLUSTER);
        disk.flush();
        disk.write(Buffer.alloc(8 * CLUSTER, 9), 0, 8 * CLUSTER, 8 * MiB);
        disk.write(Buffer.alloc(CLUSTER, 5), 0, CLUSTER, 0);
        disk.flush();
      },
      (disk) => {
        for (let i = 0; i < 8; i++) expectByte(disk, 8 * MiB + i * CLUSTER, 9);
        expectByte(disk, 0, 5);
        expectByte(disk, MiB, 4);
      },
    );
    checkImage(image);
  });

  it('to an encrypted sector is waited for by a change of a part of it, which reads all of it', async () => {
    const encryption = ['encrypt.format=aes'];
    const dir = scratch.subdir();
    const secret = writeSecret(dir, 'key');
    const image = createImage(dir, { size: 1024 * MiB, encryption, secret });
    qemuIo(image, ['write -P 1 0 64k', `write -P 3 ${FAR} 64k`]);
    await besideStuck(
      image,
      true,
      { use: 'write', length: 512, hangs: { call: 'write', length: 512 } },
      (disk) => disk.zero(0, 100),
      (disk) => {
        const bytes = Buffer.alloc(512);
        disk.read(bytes, 0, 512, 0);
        expect(bytes.equals(Buffer.concat([Buffer.alloc(100), Buffer.alloc(412, GATED_BYTE)]))).to.equal(
          true,
        );
      },
      'somebody waits',
    );
  });

  const TAIL: Gated = { use: 'write', length: 512, hangs: { call: 'read', length: CLUSTER - 512 } };

  it('since its backing file does lets others use the disk, and keeps what they write in its cluster', async () => {
    const dir = scratch.subdir();
    build(dir);
    const image = createImage(dir, {
      name: 'overlay',
      size: 1024 * MiB,
      backing: { file: 'image.qcow2', format: 'qcow2' },
    });
    await besideStuck(
      image,
      true,
      TAIL,
      (disk) => {
        expectByte(disk, MiB, 2);
        disk.write(Buffer.alloc(512, 8), 0, 512, CLUSTER / 2);
        disk.flush();
      },
      (disk) => {
        expectByte(disk, 0, GATED_BYTE);
        expectByte(disk, 512, 1);
        expectByte(disk, CLUSTER / 2, 8);
        expectByte(disk, CLUSTER - 512, 1);
      },
    );
    checkImage(image);
  });

  it('since its backing file does finds the rest of its cluster as it is in the end', async () => {
    const dir = scratch.subdir();
    build(dir);
    for (const erased of [false, true]) {
      const name = `overlay-${erased}`;
      const image = createImage(dir, {
        name,
        size: 1024 * MiB,
        backing: { file: 'image.qcow2', format: 'qcow2' },
      });
      // Clusters that held something before are filled up around what is written.
      qemuIo(image, ['write 8M 1M', 'write 16M 64k', 'write -z -u 8M 1M']);
      const use = (disk: Disk): void => {
        if (erased) disk.discard(0, CLUSTER);
        disk.flush();
      };
      await besideStuck(image, true, TAIL, use, (disk) => {
        expectByte(disk, 0, GATED_BYTE);
        expectByte(disk, 512, erased ? 0 : 1);
        expectByte(disk, CLUSTER - 512, erased ? 0 : 1);
      });
      checkImage(image);
    }
  });
});
