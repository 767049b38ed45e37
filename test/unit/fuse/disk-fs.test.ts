import { expect } from 'chai';
import type { Disk } from '../../../src/disk.js';
import { AllocationCount } from '../../../src/disk.js';
import { DiskFs } from '../../../src/fuse/disk-fs.js';
import { allocateInode, setCounted } from '../../../src/fuse/inode.js';
import { FakeDisk } from '../support/fake-disk.js';

const OPTIONS = { name: 'disk.raw', uid: 1000, gid: 100, mode: 0o664, writeBack: false };

/** @param counted bytes that hold data */
function show(disk: Disk, mode = OPTIONS.mode, counted: number | undefined = 512): DiskFs {
  const inode = allocateInode(disk.size, 5000);
  if (counted !== undefined) setCounted(inode, counted);
  return new DiskFs(disk, { ...OPTIONS, mode, inode });
}

describe('seeking in the disk', () => {
  // Data, hole, data, hole.
  const fs = show(new FakeDisk([512, 512, 1024, 2048]));

  it('finds data and holes across extents', () => {
    expect([0, 511, 512, 1023, 1024, 2047].map((at) => fs.seek(at, 'data'))).to.deep.equal([
      0, 511, 1024, 1024, 1024, 2047,
    ]);
    expect([0, 511, 512, 1023, 1024, 2048].map((at) => fs.seek(at, 'hole'))).to.deep.equal([
      512, 512, 512, 1023, 2048, 2048,
    ]);
  });

  it('finds nothing at or beyond the end, and no data in the last hole', () => {
    expect(fs.seek(2048, 'data')).to.equal(undefined);
    for (const at of [4096, 5000, -1]) {
      expect(fs.seek(at, 'data')).to.equal(undefined);
      expect(fs.seek(at, 'hole')).to.equal(undefined);
    }
  });

  it('takes the end of the disk for a hole', () => {
    expect(show(new FakeDisk([512])).seek(7, 'hole')).to.equal(512);
  });

  it('passes many extents of one kind', () => {
    const runs = Array.from({ length: 2001 }, (_, index) =>
      index === 2000 ? 512 : index % 2 === 0 ? 0 : 512,
    );
    const many = show(new FakeDisk(runs));
    expect(many.seek(0, 'data')).to.equal(1000 * 512);
  });
});

describe('a scan of a disk in too many pieces', () => {
  const pieces = new FakeDisk(Array.from({ length: 600_000 }, () => 512));
  const holes = new FakeDisk([
    0,
    ...Array.from({ length: 1_200_001 }, (_, index) => (index % 2 === 0 ? 512 : 0)),
  ]);

  it('gives up a seek for an answer that is always right', () => {
    const found = show(holes).seek(0, 'data');
    expect(found).to.be.within(1, holes.size - 1);
    const solid = new FakeDisk(Array.from({ length: 1_200_001 }, (_, index) => (index % 2 === 0 ? 512 : 0)));
    expect(show(solid).seek(0, 'hole')).to.equal(solid.size);
  });

  it('counts what is allocated bit by bit', () => {
    const count = new AllocationCount(pieces);
    let bits = 1;
    while (!count.advance(250_000)) bits++;
    expect(count.bytes).to.equal(pieces.size / 2);
    expect(bits).to.equal(3);
  });
});

describe('the attributes', () => {
  it('tell what the host stores until the disk is counted, and are not remembered so long', () => {
    const disk = new FakeDisk([65_536, 512]);
    const inode = allocateInode(disk.size, 5000);
    const fs = new DiskFs(disk, { ...OPTIONS, inode });
    expect(fs.attributes(2)).to.include({ blocks: Math.ceil(disk.storedBytes() / 512), validSeconds: 1 });
    setCounted(inode, 65_536);
    expect(fs.attributes(2)).to.include({ blocks: 128, validSeconds: 3600 });
  });

  it('of the disk let those read who may read the image, and nobody write', () => {
    const fs = show(new FakeDisk([512, 512]));
    expect(fs.attributes(2)).to.deep.equal({
      inode: 2,
      size: 1024,
      blocks: 1,
      validSeconds: 3600,
      mode: 0o100444,
      links: 1,
      uid: 1000,
      gid: 100,
      atime: 5_000_000_000n,
      mtime: 5_000_000_000n,
      ctime: 5_000_000_000n,
    });
    expect(fs.attributes(1)?.mode).to.equal(0o040555);
    expect(fs.attributes(3)).to.equal(undefined);
  });

  it('keep others out of the directory of a private image', () => {
    const fs = show(new FakeDisk([512]), 0o600);
    expect([fs.attributes(1)?.mode, fs.attributes(2)?.mode]).to.deep.equal([0o040500, 0o100400]);
  });
});
