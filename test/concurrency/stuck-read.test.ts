/** One read that the host does not answer holds up nothing else, and finds in the end what it looked for. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { attachDisk, openLayers } from '../../src/qcow2/chain.js';
import { checkImage, createImage, type Image, imagePath, KiB, MiB, qemuIo } from '../support/images.js';
import { useScratch } from '../support/scratch.js';
import type { GatedRead } from './gated-worker.js';

const CLUSTER = 64 * KiB;
const L2_SLICE = 4096;
/** Mapped by another L2 table. */
const FAR = 600 * MiB;

function build(dir: string): Image {
  const image = createImage(dir, { size: 1024 * MiB });
  qemuIo(image, ['write -P 1 0 64k', 'write -P 2 1M 64k', `write -P 3 ${FAR} 64k`]);
  return image;
}

/** Uses the disk while another thread hangs in a read of its first cluster. @returns what that one read in the end */
async function besideStuckRead(
  image: Image,
  writable: boolean,
  use: (disk: Disk) => void,
  hangs = CLUSTER,
): Promise<Buffer> {
  const layers = openLayers(imagePath(image), { writable });
  const disk = await attachDisk(layers);
  const gate = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const workerData: GatedRead = { layers, gate, length: CLUSTER, hangs };
  const worker = new Worker(new URL('./gated-worker.js', import.meta.url), { workerData });
  const exit = once(worker, 'exit');
  await once(worker, 'message');
  const answer = once(worker, 'message');
  try {
    use(disk);
  } finally {
    Atomics.store(new Int32Array(gate), 0, 1);
    Atomics.notify(new Int32Array(gate), 0);
  }
  const [content] = (await answer) as [Uint8Array];
  await exit;
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
    const content = await besideStuckRead(image, false, (disk) => {
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
    const content = await besideStuckRead(image, true, use, L2_SLICE);
    expect(content.equals(Buffer.alloc(CLUSTER, 5))).to.equal(true);
    checkImage(image);
  });

  it('lets others write and flush, and keeps the cluster that it reads until it ends', async () => {
    const image = build(scratch.subdir());
    const content = await besideStuckRead(image, true, (disk) => {
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
