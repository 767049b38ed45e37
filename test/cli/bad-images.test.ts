import { writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  addExtension,
  addFeatureName,
  EXTENSION,
  type HeaderField,
  patchBytes,
  patchField,
  patchNumber,
  readField,
  removeExtension,
  setFeatureBit,
  snapshotEntryOffset,
  truncateImage,
} from '../support/damage.js';
import { createImage, type ImageSpec, imagePath, MiB, qemuImg, takeSnapshot } from '../support/images.js';
import { patternBytes } from '../support/pattern.js';
import { describeRefusals, type Refusal } from '../support/refusals.js';
import { tool } from '../support/run.js';

function file(dir: string, content: string | Uint8Array): string {
  const name = path.join(dir, 'image.qcow2');
  writeFileSync(name, content);
  return name;
}

/** A good image, then damaged. */
function damaged(damage: (image: string) => void, spec: ImageSpec = {}): Refusal['make'] {
  return (dir) => {
    const image = imagePath(createImage(dir, { size: 2 * MiB, ...spec }));
    damage(image);
    return image;
  };
}

const field = (name: HeaderField, value: number | bigint, spec?: ImageSpec): Refusal['make'] =>
  damaged((image) => patchField(image, name, value), spec);

function withSnapshot(damage: (entry: number, image: string) => void): Refusal['make'] {
  return (dir) => {
    const image = createImage(dir, { size: 2 * MiB });
    takeSnapshot(image, 'before', '1');
    damage(snapshotEntryOffset(imagePath(image), 0), imagePath(image));
    return imagePath(image);
  };
}

describeRefusals('files that are no qcow2 images', [
  {
    title: 'an empty file',
    make: (dir) => file(dir, ''),
    kind: 'format',
    words: ['image.qcow2', 'not a qcow2 image', 'empty'],
  },
  {
    title: 'a text',
    make: (dir) => file(dir, 'QFI is how it begins, but not how it goes on\n'.repeat(50)),
    kind: 'format',
    words: ['image.qcow2', 'not a qcow2 image'],
  },
  {
    title: 'noise',
    make: (dir) => file(dir, patternBytes(5, 0, MiB, 'noise').subarray(100)),
    kind: 'format',
    words: ['image.qcow2', 'not a qcow2 image'],
  },
  {
    title: 'a VMDK image, by its name',
    make: (dir) => file(dir, Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(70_000)])),
    kind: 'format',
    words: ['not a qcow2 image', 'VMDK'],
  },
  {
    title: 'a VDI image, by its name',
    make: (dir) => {
      qemuImg(dir, ['create', '-q', '-f', 'vdi', 'image.vdi', '1M']);
      return path.join(dir, 'image.vdi');
    },
    kind: 'format',
    words: ['not a qcow2 image', 'VDI'],
  },
  {
    title: 'a qcow version 1 image, with the way out',
    make: (dir) => {
      qemuImg(dir, ['create', '-q', '-f', 'qcow', 'image.qcow', '10M']);
      return path.join(dir, 'image.qcow');
    },
    kind: 'unsupported',
    words: ['image.qcow', 'version 1', 'qemu-img convert'],
  },
  {
    title: 'an image that is missing',
    make: (dir) => path.join(dir, 'missing.qcow2'),
    kind: 'host-io',
    words: ['missing.qcow2', 'no such file'],
  },
  { title: 'a directory', make: (dir) => dir, kind: 'host-io', words: ['directory'] },
  {
    title: 'a directory to be written',
    make: (dir) => dir,
    access: [],
    kind: 'host-io',
    words: ['is a directory; a regular file or a block device is needed'],
  },
  {
    title: 'a FIFO, at once',
    make: (dir) => {
      tool('mkfifo', path.join(dir, 'fifo'));
      return path.join(dir, 'fifo');
    },
    kind: 'host-io',
    words: ['fifo', 'FIFO'],
    ownProcess: true,
  },
  { title: 'a character device', make: () => '/dev/zero', kind: 'host-io', words: ['/dev/zero'] },
  {
    title: 'an image below a file',
    make: (dir) => path.join(file(dir, ''), 'image.qcow2'),
    kind: 'host-io',
    words: ['image.qcow2', 'not a directory'],
  },
]);

describeRefusals('headers that make no sense', [
  ...[1, 3].map(
    (length): Refusal => ({
      title: `a header cut after ${length} bytes`,
      make: damaged((image) => truncateImage(image, length)),
      kind: 'format',
      words: ['image.qcow2', 'not a qcow2 image'],
    }),
  ),
  ...[4, 8, 71].map(
    (length): Refusal => ({
      title: `a header cut after ${length} bytes`,
      make: damaged((image) => truncateImage(image, length)),
      kind: 'format',
      words: ['image.qcow2', `${length} of 72 bytes`, 'truncated'],
    }),
  ),
  ...[72, 80, 103].map(
    (length): Refusal => ({
      title: `a header of version 3 cut after ${length} bytes`,
      make: damaged((image) => truncateImage(image, length)),
      kind: 'format',
      words: ['image.qcow2', `${length} of 104 bytes`, 'truncated'],
    }),
  ),
  { title: 'version 0', make: field('version', 0), kind: 'unsupported', words: ['version 0'] },
  { title: 'version 4', make: field('version', 4), kind: 'unsupported', words: ['version 4'] },
  {
    title: 'clusters that are too small',
    make: field('clusterBits', 8),
    kind: 'format',
    words: ['cluster_bits is 8'],
  },
  {
    title: 'clusters that are too large',
    make: field('clusterBits', 0xffffffff),
    kind: 'format',
    words: ['cluster_bits is 4294967295'],
  },
  {
    title: 'extended L2 entries in clusters that are too small',
    make: damaged((image) => setFeatureBit(image, 'incompatibleFeatures', 4), { clusterSize: 4096 }),
    kind: 'format',
    words: ['extended L2'],
  },
  {
    title: 'a disk size of 2^63',
    make: field('size', 1n << 63n),
    kind: 'format',
    words: ['image.qcow2', '9223372036854775808', 'out of range'],
  },
  {
    title: 'a disk larger than its L1 table maps',
    make: field('size', 1n << 50n),
    kind: 'format',
    words: ['L1 table'],
  },
  {
    title: 'refcounts of 128 bits',
    make: field('refcountOrder', 7),
    kind: 'format',
    words: ['refcount_order is 7'],
  },
  {
    title: 'a header that is too short',
    make: field('headerLength', 96),
    kind: 'format',
    words: ['header_length is 96'],
  },
  {
    title: 'a header longer than a cluster',
    make: field('headerLength', 65544),
    kind: 'format',
    words: ['header_length is 65544'],
  },
  {
    title: 'an unknown encryption method',
    make: field('cryptMethod', 3),
    kind: 'unsupported',
    words: ['encryption method 3'],
  },
  {
    title: 'an unknown compression type',
    make: damaged((image) => {
      patchField(image, 'compressionType', 2);
      setFeatureBit(image, 'incompatibleFeatures', 3);
    }),
    kind: 'unsupported',
    words: ['compression type 2'],
  },
  {
    title: 'a compression type without its feature bit',
    make: field('compressionType', 1),
    kind: 'format',
    words: ['compression type 1', 'bit 3'],
  },
  {
    title: "an unknown incompatible feature, by the name in the image's own table",
    make: damaged((image) => {
      addFeatureName(image, 'incompatible', 37, 'time travel');
      setFeatureBit(image, 'incompatibleFeatures', 37);
    }),
    kind: 'unsupported',
    words: ['image.qcow2', 'time travel'],
  },
  {
    title: 'an unknown incompatible feature that fills its name to the last byte',
    make: damaged((image) => {
      addFeatureName(image, 'incompatible', 40, 'x'.repeat(46));
      setFeatureBit(image, 'incompatibleFeatures', 40);
    }),
    kind: 'unsupported',
    words: [` ${'x'.repeat(46)} `],
  },
  {
    title: 'an unknown incompatible feature that nobody names, by its bit',
    make: damaged((image) => setFeatureBit(image, 'incompatibleFeatures', 63)),
    kind: 'unsupported',
    words: ['bit 63', '0x8000000000000000'],
  },
  {
    title: 'an unknown incompatible feature whose name would write on the terminal',
    make: damaged((image) => {
      addFeatureName(image, 'incompatible', 41, 'red\x1b[31m\r\nalert');
      setFeatureBit(image, 'incompatibleFeatures', 41);
    }),
    kind: 'unsupported',
    words: ['red', 'alert'],
  },
  {
    title: 'a header extension that ends outside the first cluster',
    make: damaged((image) => patchNumber(image, Number(readField(image, 'headerLength')) + 4, 4, 0x7fffffff)),
    kind: 'format',
    words: ['extension'],
  },
  {
    title: 'a backing name that ends outside the first cluster',
    make: damaged((image) => {
      patchField(image, 'backingFileOffset', 65000);
      patchField(image, 'backingFileSize', 1000);
    }),
    kind: 'format',
    words: ['backing file name'],
  },
  {
    title: 'a backing name of 1024 bytes',
    make: damaged((image) => {
      patchField(image, 'backingFileOffset', 1024);
      patchField(image, 'backingFileSize', 1024);
    }),
    kind: 'format',
    words: ['backing file name', '1024', '1023'],
  },
]);

describeRefusals('tables beyond limits', [
  {
    title: 'a huge L1 table',
    make: field('l1Size', 0xffffffff),
    kind: 'format',
    words: ['L1 table', '33554432'],
  },
  {
    title: 'an L1 table without entries',
    make: field('l1Size', 0),
    kind: 'format',
    words: ['L1 table', '0 entries'],
  },
  {
    title: 'an unaligned L1 table',
    make: field('l1TableOffset', 0x30200),
    kind: 'format',
    words: ['L1 table', '0x30200'],
  },
  {
    title: 'an L1 table outside the file',
    make: field('l1TableOffset', 1n << 40n),
    kind: 'format',
    words: ['L1 table', '0x10000000000', 'outside the file'],
  },
  {
    title: 'an L1 table offset beyond 2^53',
    make: field('l1TableOffset', 0xffff_ffff_ffff_0000n),
    kind: 'format',
    words: ['image.qcow2'],
  },
  {
    title: 'an image cut before its L1 table',
    make: damaged((image) => truncateImage(image, Number(readField(image, 'l1TableOffset')))),
    kind: 'format',
    words: ['L1 table', 'outside the file'],
  },
  {
    title: 'a huge refcount table',
    make: field('refcountTableClusters', 0xffffffff),
    kind: 'format',
    words: ['refcount table', '8388608'],
  },
  {
    title: 'an empty refcount table',
    make: field('refcountTableClusters', 0),
    kind: 'format',
    words: ['refcount table'],
  },
  {
    title: 'an unaligned refcount table',
    make: field('refcountTableOffset', 0x10001),
    kind: 'format',
    words: ['refcount table', '0x10001'],
  },
  {
    title: 'too many snapshots',
    make: field('nbSnapshots', 65537),
    kind: 'format',
    words: ['65537 snapshots', '65536'],
  },
  {
    title: 'a snapshot table outside the file, to be written',
    access: [],
    make: damaged((image) => {
      patchField(image, 'nbSnapshots', 3);
      patchField(image, 'snapshotsOffset', 1n << 40n);
    }),
    kind: 'format',
    words: ['snapshot table entry 0', 'outside the file'],
  },
  {
    title: 'an unaligned snapshot table',
    make: damaged((image) => {
      patchField(image, 'nbSnapshots', 1);
      patchField(image, 'snapshotsOffset', 0x10008);
    }),
    kind: 'format',
    words: ['snapshot table', '0x10008'],
  },
  {
    title: 'a snapshot with too much extra data, to be written',
    access: [],
    make: withSnapshot((entry, image) => patchNumber(image, entry + 36, 4, 1025)),
    kind: 'format',
    words: ['snapshot table entry 0', '1025', '1024'],
  },
  {
    title: 'a snapshot of a table that makes no sense',
    make: (dir) => {
      const make = withSnapshot((entry, image) => patchNumber(image, entry + 36, 4, 1025));
      return { image: make(dir) as string, args: ['--snapshot', 'before'] };
    },
    kind: 'format',
    words: ['snapshot table entry 0', '1025', '1024'],
  },
  {
    title: 'a snapshot whose L1 table lies outside the file',
    make: (dir) => {
      const make = withSnapshot((entry, image) => patchNumber(image, entry, 8, 1n << 40n));
      return { image: make(dir) as string, args: ['--snapshot', 'before'] };
    },
    kind: 'format',
    words: ['L1 table', 'outside the file'],
  },
  {
    title: 'a LUKS header whose extension is missing',
    make: field('cryptMethod', 2),
    kind: 'format',
    words: ['LUKS', 'extension'],
  },
  {
    title: 'a LUKS header in a plain image',
    make: damaged((image) => {
      const data = Buffer.alloc(16);
      data.writeBigUInt64BE(65536n, 0);
      data.writeBigUInt64BE(65536n, 8);
      addExtension(image, EXTENSION.encryption, data);
    }),
    kind: 'format',
    words: ['LUKS'],
  },
  {
    title: 'an external data file that is not named',
    make: damaged((image) => removeExtension(image, EXTENSION.dataFile), { options: ['data_file=data.raw'] }),
    kind: 'named-file',
    words: ['image.qcow2', 'name'],
  },
  {
    title: 'an image in which everything after the magic is noise',
    make: damaged((image) => patchBytes(image, 8, patternBytes(3, 0, 4096, 'noise'))),
    kind: 'format',
    words: ['image.qcow2'],
  },
]);
