import fs from 'node:fs';
import { expect } from 'chai';
import type { Disk } from '../../../src/disk.js';
import { FileStorage, type OpenFile } from '../../../src/host/file-storage.js';
import { attachDisk, openLayers } from '../../../src/qcow2/chain.js';
import { allocateReadAhead, ReadAhead } from '../../../src/qcow2/read-ahead.js';
import { Random } from '../../support/random.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const CLUSTER = 64 * KIB;

describe('reading ahead', () => {
  describe('of who reads', () => {
    const SIZE = 100 * CLUSTER;
    let ahead: ReadAhead;
    beforeEach(() => {
      ahead = new ReadAhead(allocateReadAhead(), CLUSTER, 8 * CLUSTER);
    });

    function fetched(size = SIZE): number[] {
      const offsets: number[] = [];
      while (ahead.isWanted(size)) {
        offsets.push(ahead.next / CLUSTER);
        ahead.advance(ahead.next + CLUSTER);
      }
      return offsets;
    }

    it('from one end to the other: goes on a little before, and leaves the next cluster to the reader', () => {
      for (let at = 0; at < 4; at++) ahead.note(at * CLUSTER, CLUSTER);
      expect(fetched()).to.deep.equal([5, 6, 7, 8, 9, 10, 11]);
      ahead.note(4 * CLUSTER, CLUSTER);
      ahead.note(5 * CLUSTER, CLUSTER);
      expect(fetched()).to.deep.equal([12, 13]);
    });

    it('small pieces, in nearly the right order', () => {
      for (const at of [0, 2, 1, 3, 4, 6, 5, 7]) ahead.note(at * 4 * KIB, 4 * KIB);
      expect(fetched()[0]).to.equal(2);
    });

    it('up to the end of the disk', () => {
      for (let at = 0; at < 4; at++) ahead.note(at * CLUSTER, CLUSTER);
      expect(fetched(6 * CLUSTER + 512)).to.deep.equal([5, 6]);
      expect(fetched(5 * CLUSTER)).to.deep.equal([]);
    });

    it('here and there: does nothing', () => {
      const random = new Random(1);
      for (let round = 0; round < 1000; round++) {
        ahead.note(random.below(1000) * 16 * MIB, 4 * KIB);
        expect(ahead.isWanted(1e15)).to.equal(false);
      }
    });

    it('backwards: does nothing', () => {
      for (let at = 99; at >= 0; at--) ahead.note(at * CLUSTER, CLUSTER);
      expect(fetched()).to.deep.equal([]);
    });
  });

  describe('by another thread', () => {
    const scratch = useScratch();
    const dir = scratch.subdir();
    const content = new Random(2).bytes(512).toString('latin1').repeat(4096);
    let reads = 0;

    class CountingStorage extends FileStorage {
      override read(target: Buffer, at: number, length: number, position: number): number {
        reads++;
        return super.read(target, at, length, position);
      }
    }
    const storageOf = (file: OpenFile): FileStorage => new CountingStorage(file);

    /** Reads four clusters through one disk, one after the other, everything that follows ahead through another. */
    async function readAhead(image: string, damage: () => void = () => {}): Promise<Disk> {
      const layers = openLayers(image, {}, storageOf);
      const reader = await attachDisk(layers, storageOf);
      const helper = await attachDisk(layers, storageOf);
      expect(helper.canReadAhead).to.equal(false);
      const target = Buffer.alloc(CLUSTER);
      for (let at = 0; at < 4 * CLUSTER; at += CLUSTER) reader.read(target, 0, CLUSTER, at);
      damage();
      expect(helper.canReadAhead).to.equal(true);
      for (let steps = 0; helper.canReadAhead; steps++) {
        if (steps > 1000) throw new Error('there is no end');
        helper.readAhead();
      }
      return reader;
    }

    before(() => {
      fs.writeFileSync(`${dir}/content.raw`, content, 'latin1');
      const options = ['convert', '-c', '-f', 'raw', '-O', 'qcow2'];
      run('qemu-img', [...options, `${dir}/content.raw`, `${dir}/image.qcow2`]);
      run('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        'image.qcow2',
        '-F',
        'qcow2',
        `${dir}/top.qcow2`,
      ]);
    });

    for (const image of ['image.qcow2', 'top.qcow2']) {
      it(`leaves the reader nothing but to copy: ${image}`, async () => {
        const disk = await readAhead(`${dir}/${image}`);
        const target = Buffer.alloc(4 * CLUSTER);
        reads = 0;
        disk.read(target, 0, target.length, 5 * CLUSTER);
        expect(reads).to.equal(0);
        expect(target.equals(Buffer.from(content, 'latin1').subarray(5 * CLUSTER, 9 * CLUSTER))).to.equal(
          true,
        );
        disk.close();
      });
    }

    it('inflates each cluster once, from one end to the other, whoever does it', async () => {
      fs.writeFileSync(`${dir}/long.raw`, content.repeat(18), 'latin1');
      const options = ['convert', '-c', '-f', 'raw', '-O', 'qcow2'];
      run('qemu-img', [...options, `${dir}/long.raw`, `${dir}/long.qcow2`]);
      const clusters = (18 * content.length) / CLUSTER;
      const layers = openLayers(`${dir}/long.qcow2`, {}, storageOf);
      const disk = await attachDisk(layers, storageOf);
      const helper = await attachDisk(layers, storageOf);
      const target = Buffer.alloc(CLUSTER);
      reads = 0;
      let waited = 0;
      for (let at = 0; at < 18 * content.length; at += CLUSTER) {
        const before = reads;
        disk.read(target, 0, CLUSTER, at);
        if (reads > before) waited++;
        while (helper.canReadAhead) helper.readAhead();
      }
      // Two slices of the L2 table, and the clusters before anybody knew.
      expect(reads).to.equal(clusters + 2);
      expect(waited).to.be.below(10);
      disk.close();
    });

    it('keeps silent about damage, which the reader is told', async () => {
      fs.copyFileSync(`${dir}/image.qcow2`, `${dir}/damaged.qcow2`);
      const damage = (): void => fs.truncateSync(`${dir}/damaged.qcow2`, 5 * CLUSTER);
      const disk = await readAhead(`${dir}/damaged.qcow2`, damage);
      const target = Buffer.alloc(CLUSTER);
      expect(() => disk.read(target, 0, CLUSTER, 20 * CLUSTER)).to.throw('does not inflate');
      disk.close();
    });
  });
});
