import { expect } from 'chai';
import { bytesPerL1Entry, parseHeader } from '../../../../src/qcow2/format/header.js';
import { expectError } from '../../support/errors.js';
import { type HeaderFields, headerBytes } from '../../support/headers.js';

const parse = (fields: HeaderFields = {}) => parseHeader(headerBytes(fields), 'image');
const MiB = 2 ** 20;

function refuses(fields: HeaderFields, ...words: string[]): void {
  expectError('format', ['image: ', ...words], () => parse(fields));
}

describe('a header', () => {
  it('of version 3 is read field by field', () => {
    const header = parse({
      backingFileOffset: 0x200,
      backingFileSize: 9,
      cryptMethod: 2,
      nbSnapshots: 3,
      snapshotsOffset: 0x50000,
      incompatibleFeatures: 0b10111,
      compatibleFeatures: 1n << 63n,
      autoclearFeatures: 3,
      refcountOrder: 6,
    });
    expect(header).to.deep.include({
      version: 3,
      clusterBits: 16,
      clusterSize: 65536,
      size: MiB,
      backingFileOffset: 0x200,
      backingFileSize: 9,
      cryptMethod: 'luks',
      l1Size: 1,
      l1TableOffset: 0x200000,
      refcountTableOffset: 0x400000,
      refcountTableClusters: 1,
      refcountBits: 64,
      snapshotCount: 3,
      snapshotsOffset: 0x50000,
      incompatibleFeatures: 0b10111n,
      compatibleFeatures: 1n << 63n,
      autoclearFeatures: 3n,
      headerLength: 112,
      compressionType: 'zlib',
    });
  });

  it('of version 2 ends at byte 72: what follows is no feature', () => {
    const bytes = headerBytes({ version: 2 });
    bytes.fill(0xff, 72);
    expect(parseHeader(bytes, 'image')).to.deep.include({
      version: 2,
      incompatibleFeatures: 0n,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      refcountBits: 16,
      headerLength: 72,
      compressionType: 'zlib',
    });
  });

  it('of version 2 needs no more than 72 bytes of the file', () => {
    expect(parseHeader(headerBytes({ version: 2 }, 72), 'image').version).to.equal(2);
  });

  it('that is cut short is refused', () => {
    for (const length of [4, 8, 71]) {
      const expected = ['cut short', `${length} of 72`, 'truncated'];
      expectError('format', expected, () => parseHeader(headerBytes({}, length), 'image'));
    }
    for (const length of [72, 103]) {
      const expected = ['cut short', `${length} of 104`];
      expectError('format', expected, () => parseHeader(headerBytes({}, length), 'image'));
    }
  });

  it('without the magic is refused', () => {
    refuses({ magic: 0x514649fc }, 'not a qcow2 image', 'QFI\\xfb');
    expectError('format', ['the file is empty'], () => parseHeader(Buffer.alloc(0), 'image'));
    expectError('format', ['not a qcow2 image'], () => parseHeader(Buffer.from('QFI'), 'image'));
  });

  it('of another format is refused by that name', () => {
    const vmdk = Buffer.alloc(112);
    vmdk.write('KDMV');
    expectError('format', ['not a qcow2 image', 'VMDK'], () => parseHeader(vmdk, 'image'));
    const luks = Buffer.concat([Buffer.from('LUKS\xba\xbe', 'latin1'), Buffer.alloc(106)]);
    expectError('format', ['LUKS'], () => parseHeader(luks, 'image'));
  });

  it('of version 1 is refused with a way out, and an unknown version by its number', () => {
    expectError('unsupported', ['version 1', 'qemu-img convert -f qcow'], () => parse({ version: 1 }));
    expectError('unsupported', ['version 4'], () => parse({ version: 4 }));
    expectError('unsupported', ['version 0'], () => parse({ version: 0 }));
  });

  it('has 9 to 21 cluster bits', () => {
    for (const clusterBits of [9, 21])
      expect(parse({ clusterBits, l1Size: 100 })).to.include({ clusterBits });
    for (const clusterBits of [0, 8, 22, 64, 2 ** 32 - 1]) {
      refuses({ clusterBits }, `cluster_bits is ${clusterBits}`);
    }
  });

  it('has a header_length from 104 to a cluster', () => {
    for (const headerLength of [104, 112, 120, 65536])
      expect(parse({ headerLength })).to.include({ headerLength });
    for (const headerLength of [0, 72, 103, 65537])
      refuses({ headerLength }, `header_length is ${headerLength}`);
  });

  it('with extended L2 entries needs clusters of at least 16 KiB', () => {
    const incompatibleFeatures = 1 << 4;
    expect(parse({ incompatibleFeatures, clusterBits: 14 }).clusterBits).to.equal(14);
    refuses({ incompatibleFeatures, clusterBits: 13 }, 'extended L2', '16 KiB');
  });

  it('has a compression type only beyond byte 104', () => {
    expect(parse({ headerLength: 104, compressionType: 1 }).compressionType).to.equal('zlib');
    refuses({ headerLength: 104, compressionType: 1, incompatibleFeatures: 8 }, 'bit 3 is set');
  });

  it('has a compression type that agrees with its feature bit', () => {
    expect(parse({ compressionType: 1, incompatibleFeatures: 8 }).compressionType).to.equal('zstd');
    refuses({ compressionType: 1 }, 'compression type 1', 'bit 3 is clear');
    refuses({ compressionType: 0, incompatibleFeatures: 8 }, 'compression type 0', 'bit 3 is set');
    expectError('unsupported', ['compression type 2'], () =>
      parse({ compressionType: 2, incompatibleFeatures: 8 }),
    );
  });

  it('has an encryption method of 0 to 2', () => {
    expect([0, 1, 2].map((cryptMethod) => parse({ cryptMethod }).cryptMethod)).to.deep.equal([
      'none',
      'aes',
      'luks',
    ]);
    expectError('unsupported', ['encryption method 3'], () => parse({ cryptMethod: 3 }));
  });

  it('has a refcount_order of 0 to 6', () => {
    expect([0, 1, 6].map((refcountOrder) => parse({ refcountOrder }).refcountBits)).to.deep.equal([1, 2, 64]);
    refuses({ refcountOrder: 7 }, 'refcount_order is 7');
  });

  it('floors the disk size to whole sectors', () => {
    expect(parse({ size: MiB + 300 }).size).to.equal(MiB);
    expect(parse({ size: 511 }).size).to.equal(0);
    expect(parse({ size: 0, l1Size: 0 }).size).to.equal(0);
  });

  it('has an L1 table that covers the disk', () => {
    const covered = 512 * MiB;
    expect(parse({ size: covered, l1Size: 1 }).size).to.equal(covered);
    refuses({ size: covered + 512, l1Size: 1 }, 'L1 table has 1 entries', 'needs 2');
    refuses({ size: 512, l1Size: 0 }, 'needs 1');
    refuses({ size: covered + 8, l1Size: 1 }, 'L1 table has 1 entries', 'needs 2');
    refuses({ size: 256 * MiB + 512, l1Size: 1, incompatibleFeatures: 1 << 4 }, 'needs 2');
  });

  it('has an L1 table of at most 32 MiB', () => {
    const most = (32 * MiB) / 8;
    expect(parse({ l1Size: most }).l1Size).to.equal(most);
    refuses({ l1Size: most + 1 }, 'L1 table takes');
  });

  it('has a refcount table, of at most 8 MiB', () => {
    refuses({ refcountTableClusters: 0 }, 'refcount table');
    expect(parse({ refcountTableClusters: 128 }).refcountTableClusters).to.equal(128);
    refuses({ refcountTableClusters: 129 }, 'refcount table takes');
  });

  it('has tables that are aligned to clusters', () => {
    refuses({ l1TableOffset: 0x20200 }, 'L1 table', '0x20200');
    refuses({ refcountTableOffset: 0x10200 }, 'refcount table', '0x10200');
    refuses({ nbSnapshots: 1, snapshotsOffset: 0x10200 }, 'snapshot table', '0x10200');
    expect(parse({ nbSnapshots: 0, snapshotsOffset: 0x10200 }).snapshotCount).to.equal(0);
  });

  it('has at most 65536 snapshots', () => {
    expect(parse({ nbSnapshots: 65536 }).snapshotCount).to.equal(65536);
    refuses({ nbSnapshots: 65537 }, '65537 snapshots');
  });

  it('has a backing file name of at most 1023 bytes in the first cluster', () => {
    const name = { backingFileOffset: 0x100, backingFileSize: 1023 };
    expect(parse(name)).to.include(name);
    refuses({ ...name, backingFileSize: 1024 }, 'backing file name', '1024', '1023');
    expect(parse({ backingFileOffset: 65536 - 9, backingFileSize: 9 }).backingFileSize).to.equal(9);
    refuses({ backingFileOffset: 65536 - 8, backingFileSize: 9 }, 'outside the first cluster');
    refuses({ backingFileOffset: 2 ** 40, backingFileSize: 1 }, 'outside the first cluster');
  });

  it('without a backing file may hold any name length', () => {
    expect(parse({ backingFileOffset: 0, backingFileSize: 9999 }).backingFileOffset).to.equal(0);
  });

  it('with a 64-bit field above 2^53 - 1 is refused', () => {
    for (const field of [
      'size',
      'l1TableOffset',
      'refcountTableOffset',
      'snapshotsOffset',
      'backingFileOffset',
    ]) {
      refuses({ [field]: 2n ** 63n }, 'out of range');
    }
  });

  it('with a disk that QEMU can have, but this program cannot, is refused as that', () => {
    expect(() => parse({ size: 2n ** 53n, clusterBits: 21 })).to.throw(
      /a disk of 9007199254740992 bytes; at most/,
    );
  });

  it('keeps unknown incompatible features for those who know their names', () => {
    expect(parse({ incompatibleFeatures: 1n << 40n }).incompatibleFeatures).to.equal(1n << 40n);
  });
});

describe('an L1 entry', () => {
  it('maps a cluster of L2 entries, half as many when they are extended', () => {
    expect(bytesPerL1Entry(parse())).to.equal(512 * MiB);
    expect(bytesPerL1Entry(parse({ incompatibleFeatures: 1 << 4 }))).to.equal(256 * MiB);
    expect(bytesPerL1Entry(parse({ clusterBits: 9, l1Size: 32 }))).to.equal(32768);
  });
});
