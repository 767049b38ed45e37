/**
 * Images whose tables point into metadata. Nothing may change but the mark that says so, whatever the guest does; and
 * wherever QEMU refuses to write, so does this.
 */
import fs from 'node:fs';
import { expect } from 'chai';
import type { Disk } from '../../src/disk.js';
import { Qcow2fsError } from '../../src/errors.js';
import { FileStorage } from '../../src/host/file-storage.js';
import { openDisk } from '../../src/qcow2/chain.js';
import { bitmapTable } from '../check/damage/surgery.js';
import {
  EXTENSION,
  fileLength,
  hostOffset,
  patchField,
  patchL1,
  patchL2,
  patchNumber,
  readBytes,
  readExtensions,
  readField,
  readL1,
  readL2,
  readNumber,
  snapshotEntryOffset,
} from '../support/damage.js';
import {
  addBitmap,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  qemuIo,
  takeSnapshot,
} from '../support/images.js';
import { useScratch } from '../support/scratch.js';

const COPIED = 1n << 63n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const CLUSTER = 64 * KiB;
/** A cluster that the damage is done to, and one that stays sound; in different L2 tables. */
const VICTIM = 2 * MiB;
const SOUND = 600 * MiB;

const structures: Record<string, (path: string) => number> = {
  'the header': () => 0,
  'the refcount table': (path) => Number(readField(path, 'refcountTableOffset')),
  'a refcount block': (path) =>
    Number(readBytes(path, Number(readField(path, 'refcountTableOffset')), 8).readBigUInt64BE(0)),
  'the L1 table': (path) => Number(readField(path, 'l1TableOffset')),
  'an L2 table': (path) => Number(readL1(path, 0) & 0x00ff_ffff_ffff_fe00n),
};

const entries: Record<string, (target: number) => bigint> = {
  'a cluster of its own': (target) => COPIED | BigInt(target),
  'a shared cluster': (target) => BigInt(target),
  'a zero cluster of its own': (target) => COPIED | BigInt(target) | 1n,
  'a shared zero cluster': (target) => BigInt(target) | 1n,
  'compressed data': (target) => COMPRESSED | BigInt(target),
};

const actions: Record<string, (disk: Disk) => void> = {
  'a small write': (disk) => disk.write(Buffer.alloc(4096, 7), 0, 4096, VICTIM + 8192),
  'a write of the whole cluster': (disk) => disk.write(Buffer.alloc(CLUSTER, 7), 0, CLUSTER, VICTIM),
  'a discard': (disk) => disk.discard(VICTIM, CLUSTER),
};

describe('an entry that points into metadata', () => {
  const scratch = useScratch();
  const dir = scratch.subdir();
  let image: Image;
  let pristine: Buffer;

  before(() => {
    image = createImage(dir, { size: 1024 * MiB });
    qemuIo(image, [`write -P 1 0 64k`, `write -P 2 ${VICTIM} 64k`, `write -P 3 ${SOUND} 64k`]);
    pristine = fs.readFileSync(imagePath(image));
  });

  for (const [structure, locate] of Object.entries(structures)) {
    for (const [kind, entry] of Object.entries(entries)) {
      // An offset of 0 is no cluster.
      if (structure === 'the header' && kind !== 'compressed data') continue;
      for (const [action, act] of Object.entries(actions)) {
        it(`${kind} in ${structure}: ${action} changes nothing but the mark`, async () => {
          const path = imagePath(image);
          fs.writeFileSync(path, pristine);
          patchL2(path, VICTIM, entry(locate(path)));
          const damaged = fs.readFileSync(path);
          const disk = await openDisk(path, { writable: true });
          let failure: unknown;
          try {
            act(disk);
          } catch (error) {
            failure = error;
          }
          expect(failure).to.be.instanceOf(Qcow2fsError);
          const content = Buffer.alloc(8);
          disk.read(content, 0, 8, SOUND);
          expect(content.equals(Buffer.alloc(8, 3)), 'the rest stays readable').to.equal(true);
          try {
            disk.close();
          } catch (error) {
            expect((error as Qcow2fsError).kind).to.equal('corrupt');
          }
          const after = fs.readFileSync(path);
          // Compressed nonsense that does not inflate is damaged data, which marks nothing.
          const marked = (Number(after[79]) & 2) !== 0;
          after[79] = damaged[79]!;
          expect(after.subarray(0, damaged.length).equals(damaged), 'nothing else changed').to.equal(true);
          if (!/inflate/.test((failure as Error).message)) expect(marked).to.equal(true);
        });
      }
    }
  }
});

describe('an entry that points into the metadata of a snapshot or a bitmap', () => {
  const scratch = useScratch();
  const targets: Record<string, (path: string) => number> = {
    'an L2 table of the snapshot alone': (path) =>
      Number(readNumber(path, Number(readNumber(path, snapshotEntryOffset(path, 0), 8)), 8) & OFFSET_MASK),
    'an L2 table that the disk shares with it': (path) => Number(readL1(path, 1) & OFFSET_MASK),
    'the table of a bitmap': bitmapTable,
    'the data of a bitmap': (path) => Number(readNumber(path, bitmapTable(path), 8) & OFFSET_MASK),
  };
  const actions: Record<string, (disk: Disk) => void> = {
    'a write in place': (disk) => disk.write(Buffer.alloc(4096, 7), 0, 4096, VICTIM),
    'a discard': (disk) => disk.discard(VICTIM, CLUSTER),
    'a write in place after the disk got a table of its own': (disk) => {
      disk.write(Buffer.alloc(512, 8), 0, 512, SOUND);
      disk.flush();
      disk.write(Buffer.alloc(4096, 7), 0, 4096, VICTIM);
    },
  };
  const dir = scratch.subdir();
  let image: Image;
  let pristine: Buffer;

  before(() => {
    image = createImage(dir, { size: 1024 * MiB });
    qemuIo(image, [`write -P 1 0 64k`, `write -P 3 ${SOUND} 64k`]);
    addBitmap(image, 'bitmap');
    takeSnapshot(image, 'one', '1');
    qemuIo(image, [`write -P 2 ${VICTIM} 64k`]);
    pristine = fs.readFileSync(imagePath(image));
  });

  for (const [target, locate] of Object.entries(targets)) {
    for (const [action, act] of Object.entries(actions)) {
      it(`${target}: ${action} leaves it alone`, async () => {
        const path = imagePath(image);
        fs.writeFileSync(path, pristine);
        const victim = locate(path);
        const metadata = readBytes(path, victim, CLUSTER);
        const disk = await openDisk(path, { writable: true });
        // Before its table is read: the comparison with the refcounts would have refused the image.
        patchL2(path, VICTIM, COPIED | BigInt(victim));
        expect(() => act(disk)).to.throw(/metadata lies at/);
        expect(() => disk.close()).to.throw(/takes no more writes/);
        expect(readBytes(path, victim, CLUSTER).equals(metadata)).to.equal(true);
        expect(readField(path, 'incompatibleFeatures') & 2n).to.equal(2n);
      });
    }
  }
});

describe('tables that share a cluster', () => {
  const scratch = useScratch();
  const refused = async (damage: (path: string, image: Image) => void): Promise<void> => {
    const image = createImage(scratch.subdir(), { size: 1024 * MiB });
    qemuIo(image, [`write -P 1 0 64k`, `write -P 3 ${SOUND} 64k`]);
    const path = imagePath(image);
    damage(path, image);
    const before = fs.readFileSync(path);
    let failure: unknown;
    try {
      (await openDisk(path, { writable: true })).close();
    } catch (error) {
      failure = error;
    }
    expect(failure).to.be.instanceOf(Qcow2fsError);
    expect((failure as Qcow2fsError).kind).to.equal('corrupt');
    expect((failure as Qcow2fsError).message).to.match(/overlaps .*qcow2fs check/);
    expect(fs.readFileSync(path).equals(before)).to.equal(true);
    (await openDisk(path)).close();
  };

  for (const [structure, locate] of Object.entries(structures)) {
    if (structure === 'the header') continue;
    it(`are refused for writing: an L2 table in ${structure}`, () =>
      refused((path) => patchL1(path, 1, COPIED | BigInt(locate(path)))));
  }

  it('are refused for writing: an L2 table of a snapshot in the refcount table', () =>
    refused((path, image) => {
      takeSnapshot(image, 'one', '1');
      const l1 = Number(readNumber(path, snapshotEntryOffset(path, 0), 8));
      patchNumber(path, l1, 8, readField(path, 'refcountTableOffset'));
    }));

  it('are refused for writing: the data of a bitmap in an L2 table', () =>
    refused((path, image) => {
      addBitmap(image, 'bitmap');
      qemuIo(image, [`write -P 4 ${SOUND} 64k`]);
      patchNumber(path, bitmapTable(path), 8, readL1(path, 0) & OFFSET_MASK);
    }));

  it('are refused for writing: a refcount block in the L1 table', () =>
    refused((path) =>
      patchNumber(
        path,
        Number(readField(path, 'refcountTableOffset')) + 8,
        8,
        readField(path, 'l1TableOffset'),
      ),
    ));
});

describe('tables that claim more than there can be', () => {
  const scratch = useScratch();
  const claims: Record<string, (path: string, image: Image) => void> = {
    'the bitmap directory': (path, image) => {
      addBitmap(image, 'bitmap');
      const { offset } = readExtensions(path).find(({ type }) => type === EXTENSION.bitmaps)!;
      patchNumber(path, offset + 8, 8, 2n ** 31n);
    },
    'the L1 table of snapshot 1': (path, image) => {
      takeSnapshot(image, 'one', '1');
      patchNumber(path, snapshotEntryOffset(path, 0) + 8, 4, 2 ** 32 - 1);
    },
  };

  for (const [table, claim] of Object.entries(claims)) {
    it(`are refused for writing at once: ${table}`, async () => {
      const image = createImage(scratch.subdir(), { size: 64 * MiB, clusterSize: 512 });
      const path = imagePath(image);
      claim(path, image);
      let failure: unknown;
      await openDisk(path, { writable: true }).catch((error) => {
        failure = error;
      });
      expect((failure as Qcow2fsError).kind).to.equal('corrupt');
      expect((failure as Qcow2fsError).message).to.match(new RegExp(`${table} at .* more than there can be`));
      (await openDisk(path)).close();
    });
  }
});

describe('tables that start inside a cluster', () => {
  const scratch = useScratch();
  const tables: Record<string, (path: string, image: Image) => void> = {
    'the bitmap directory': (path, image) => {
      addBitmap(image, 'bitmap');
      const { offset } = readExtensions(path).find(({ type }) => type === EXTENSION.bitmaps)!;
      // Its flags would be written into an L2 table.
      patchNumber(path, offset + 16, 8, (readL1(path, 0) & 0x00ff_ffff_ffff_fe00n) + 8n);
    },
    'the L1 table of snapshot 1': (path, image) => {
      takeSnapshot(image, 'one', '1');
      patchNumber(path, snapshotEntryOffset(path, 0), 8, readField(path, 'l1TableOffset') + 512n);
    },
  };

  for (const [table, damage] of Object.entries(tables)) {
    it(`are refused for writing at once: ${table}`, async () => {
      const image = createImage(scratch.subdir(), { size: 64 * MiB });
      qemuIo(image, ['write -P 1 0 64k']);
      const path = imagePath(image);
      damage(path, image);
      const before = fs.readFileSync(path);
      let failure: unknown;
      await openDisk(path, { writable: true }).catch((error) => {
        failure = error;
      });
      expect((failure as Qcow2fsError | undefined)?.message).to.match(
        new RegExp(`${table} at .* starts inside a cluster; see what is wrong: qcow2fs check`),
      );
      expect(fs.readFileSync(path).equals(before)).to.equal(true);
      (await openDisk(path)).close();
    });
  }
});

describe('reference counts that call metadata free', () => {
  const scratch = useScratch();

  it('while the disk is mounted give nothing away: the first write finds out, and the image says so', async () => {
    const image = createImage(scratch.subdir(), { size: 64 * MiB });
    qemuIo(image, ['write -P 1 0 64k']);
    const path = imagePath(image);
    const block = structures['a refcount block']!(path);
    const disk = await openDisk(path, { writable: true });
    patchNumber(path, block + 2 * (Number(readField(path, 'l1TableOffset')) / CLUSTER), 2, 0);
    expect(() => disk.write(Buffer.alloc(512, 1), 0, 512, 5 * MiB)).to.throw(/metadata lies/);
    expect(() => disk.write(Buffer.alloc(512, 1), 0, 512, 0)).to.throw(/takes no more writes/);
    expect(() => disk.close()).to.throw(/takes no more writes/);
    expect(readField(path, 'incompatibleFeatures') & 2n).to.equal(2n);
  });

  it('or say that all clusters are in use as far as any file reaches end a write, and no billions of counts are read one by one', async () => {
    const image = createImage(scratch.subdir(), {
      size: 64 * MiB,
      clusterSize: 2 * MiB,
      options: ['refcount_bits=1'],
    });
    const path = imagePath(image);
    const first = Math.ceil(fileLength(path) / (2 * MiB));
    const blocks = 140;
    fs.truncateSync(path, (first + blocks) * 2 * MiB);
    const table = Number(readField(path, 'refcountTableOffset'));
    for (let block = 0; block < blocks; block++)
      patchNumber(path, table + 8 * block, 8, (first + block) * 2 * MiB);
    class AllCounted extends FileStorage {
      override read(target: Buffer, at: number, length: number, position: number): number {
        if (position < first * 2 * MiB) return super.read(target, at, length, position);
        target.fill(0xff, at, at + length);
        return length;
      }
    }
    const disk = await openDisk(path, { writable: true }, (file) => new AllCounted(file));
    expect(() => disk.write(Buffer.alloc(512, 1), 0, 512, 0)).to.throw(/all clusters are in use/);
    disk.read(Buffer.alloc(512), 0, 512, 0);
    disk.close();
  });

  it('because they are damaged themselves keep the image from being written', async () => {
    for (const bad of [0x200n, 1n << 50n, COPIED]) {
      const image = createImage(scratch.subdir(), { size: 64 * MiB });
      qemuIo(image, ['write -P 1 0 64k']);
      const path = imagePath(image);
      const table = Number(readField(path, 'refcountTableOffset'));
      patchNumber(path, table, 8, readNumber(path, table, 8) | bad);
      const before = fs.readFileSync(path);
      const failure = await openDisk(path, { writable: true }).catch((error) => error);
      expect(String(failure)).to.match(/cannot be counted anew: refcount table .*entry 0: .*qcow2fs check/);
      expect(fs.readFileSync(path).equals(before)).to.equal(true);
      const disk = await openDisk(path);
      const content = Buffer.alloc(4);
      disk.read(content, 0, 4, 0);
      disk.close();
      expect(content).to.deep.equal(Buffer.alloc(4, 1));
    }
  });
});

describe('an image whose entries say nothing sound', () => {
  const scratch = useScratch();

  it('takes no more writes once one of them is met, and reads what is left', async () => {
    const image = createImage(scratch.subdir(), { size: 1024 * MiB });
    qemuIo(image, [`write -P 1 0 64k`, `write -P 2 ${VICTIM} 64k`, `write -P 3 ${SOUND} 64k`]);
    const path = imagePath(image);
    patchL2(path, VICTIM, readL2(path, VICTIM) | 0x200n);
    const disk = await openDisk(path, { writable: true });
    disk.write(Buffer.alloc(512, 9), 0, 512, 0);
    expect(() => disk.read(Buffer.alloc(512), 0, 512, VICTIM)).to.throw(/not aligned/);
    expect(() => disk.write(Buffer.alloc(512, 9), 0, 512, SOUND)).to.throw(/takes no more writes/);
    const content = Buffer.alloc(2);
    disk.read(content, 0, 2, SOUND);
    expect(content).to.deep.equal(Buffer.alloc(2, 3));
    expect(readField(path, 'incompatibleFeatures') & 2n).to.equal(2n);
  });

  it('and is marked corrupt is refused for writing, and untouched', async () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    const path = imagePath(image);
    patchField(path, 'incompatibleFeatures', 2n);
    const before = fs.readFileSync(path);
    let message = '';
    await openDisk(path, { writable: true }).catch((error: Error) => {
      message = error.message;
    });
    expect(message)
      .to.contain('marked corrupt')
      .and.to.match(/qcow2fs check \/\S+, or mount it read-only: -r$/);
    expect(fs.readFileSync(path).equals(before)).to.equal(true);
  });
});

describe('a disk with more L2 slices than its cache has room for', () => {
  const scratch = useScratch();

  it('reads what was written between two flushes, wherever that was', async () => {
    const image = createImage(scratch.subdir(), { size: 4 * 1024 * 1024 * MiB });
    const path = imagePath(image);
    const disk = await openDisk(path, { writable: true });
    // These slices compete for the same four places.
    const stride = 64 * 1024 * MiB;
    const places = Array.from({ length: 40 }, (_, i) => (i * stride) % (4 * 1024 * 1024 * MiB - MiB));
    for (const [index, offset] of places.entries())
      disk.write(Buffer.alloc(CLUSTER, index + 1), 0, CLUSTER, offset);
    const content = Buffer.alloc(CLUSTER);
    for (const [index, offset] of places.entries()) {
      disk.read(content, 0, CLUSTER, offset);
      expect(content.equals(Buffer.alloc(CLUSTER, index + 1)), `write ${index}`).to.equal(true);
    }
    disk.close();
    qemuIo(
      image,
      places.map((offset, index) => `read -P ${index + 1} ${offset} 64k`),
    );
    expect(hostOffset(path, 0)).to.be.below(fileLength(path));
  });
});
