/** What is given back to the host is never what is in use again, also when giving it back fails half-way. */
import fs from 'node:fs';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { inMemory, openInMemory } from '../support/crash/recording.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuIo,
} from '../support/images.js';
import { useScratch } from '../support/scratch.js';
import { type Fault, FaultyHost } from './fault-storage.js';

/** Uses a writable disk in memory on a host that can fail, and writes what is left to the image. */
async function suffering(image: Image, fault: Fault, use: (disk: Disk, host: FaultyHost) => void) {
  const host = new FaultyHost(fault);
  const path = imagePath(image);
  const files = inMemory(new Map([[path, fs.readFileSync(path)]]));
  const disk = await openInMemory(image, files, { writable: true }, host.witness);
  try {
    use(disk, host);
  } finally {
    disk.close();
  }
  fs.writeFileSync(path, files.get(path)!.content);
  return host;
}

function failingFlush(disk: Disk, host: FaultyHost): void {
  host.armed = true;
  try {
    expect(() => disk.flush()).to.throw('injected');
  } finally {
    host.armed = false;
  }
}

describe('host space that is given back', () => {
  const scratch = useScratch();

  it('is not punched where a new table lies by then', async () => {
    const image = createImage(scratch.subdir(), { size: 1024 * MiB, options: ['extended_l2=on'] });
    const cluster = 64 * KiB;
    // The first write that lowers a count: after the refcount block, the L2 slice and the L1 sector.
    const fault: Fault = { first: 1, count: 1, code: 'ENOSPC', kinds: ['write'], partly: false };
    await suffering(image, fault, (disk, host) => {
      disk.write(Buffer.alloc(2 * cluster, 1), 0, 2 * cluster, 0);
      disk.flush();
      disk.discard(0, 2 * KiB);
      disk.discard(0, cluster);
      failingFlush(disk, host);
      disk.write(Buffer.alloc(cluster, 2), 0, cluster, 512 * MiB);
      disk.write(Buffer.alloc(cluster, 3), 0, cluster, 0);
      disk.flush();
    });
    checkImage(image);
    const raw = fs.openSync(convertToRaw(image), 'r');
    for (const [byte, at] of [
      [3, 0],
      [1, cluster],
      [2, 512 * MiB],
    ] as const) {
      const bytes = Buffer.alloc(cluster);
      fs.readSync(raw, bytes, 0, cluster, at);
      expect(
        bytes.every((value) => value === byte),
        `guest offset ${at}`,
      ).to.equal(true);
    }
    fs.closeSync(raw);
  });

  it('is counted down once, whichever read of the refcounts fails', async () => {
    const options = { size: 512 * KiB, clusterSize: 512, options: ['refcount_bits=64'] };
    for (let first = 0; ; first++) {
      const image = createImage(scratch.subdir(), options);
      qemuIo(image, ['write -P 1 0 256k']);
      const fault: Fault = { first, count: 1, code: 'EIO', kinds: ['read'], partly: false };
      const host = await suffering(image, fault, (disk, faulty) => {
        disk.discard(0, 128 * KiB);
        faulty.armed = true;
        try {
          disk.flush();
        } catch (error) {
          expect(String(error)).to.contain('injected');
        } finally {
          faulty.armed = false;
        }
        disk.flush();
      });
      checkImage(image);
      if (host.failures === 0) {
        expect(first).to.be.above(2);
        return;
      }
    }
  });
});
