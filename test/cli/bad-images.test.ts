import { writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  addFeatureName,
  patchField,
  patchNumber,
  readField,
  setFeatureBit,
  truncateImage,
} from '../support/damage.js';
import { MiB, qemuImg } from '../support/images.js';
import { patternBytes } from '../support/pattern.js';
import { describeRefusals, type Refusal } from '../support/refusals.js';
import { tool } from '../support/run.js';
import { damaged, field } from './damaged-header.js';

function file(dir: string, content: string | Uint8Array): string {
  const name = path.join(dir, 'image.qcow2');
  writeFileSync(name, content);
  return name;
}

/** How the programs begin what they write. */
const PACKED = {
  gzip: '1f8b0800000000000003',
  bzip2: '425a6839314159265359',
  xz: 'fd377a585a000004e6d6b446',
  zstd: '28b52ffd0460',
  lz4: '04224d186440a7',
};

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
  ...Object.entries({
    vmdk: 'VMDK',
    vdi: 'VDI',
    vhdx: 'VHDX',
    vpc: 'VHD',
    qed: 'QED',
    parallels: 'a Parallels disk',
  }).map(
    ([format, name]): Refusal => ({
      title: `a ${name} image, with the way out`,
      make: (dir) => {
        qemuImg(dir, ['create', '-q', '-f', format, 'image', '1M']);
        return path.join(dir, 'image');
      },
      kind: 'format',
      words: ['not a qcow2 image', name, `qemu-img convert -f ${format} -O qcow2 /`],
    }),
  ),
  ...Object.entries(PACKED).map(
    ([program, magic]): Refusal => ({
      title: `an image packed by ${program}, with the way out`,
      make: (dir) => file(dir, Buffer.concat([Buffer.from(magic, 'hex'), Buffer.alloc(1000)])),
      kind: 'format',
      words: ['not a qcow2 image', `${program} file`, `${program} -dc /`, 'image.qcow2 > disk.qcow2'],
    }),
  ),
  {
    title: 'an OVA, with the way out',
    make: (dir) => {
      qemuImg(dir, ['create', '-q', '-f', 'qcow2', "vm's disk.qcow2", '1M']);
      tool('tar', '-C', dir, '-cf', path.join(dir, "a vm's.ova"), "vm's disk.qcow2");
      return path.join(dir, "a vm's.ova");
    },
    kind: 'format',
    words: ['not a qcow2 image', 'OVA', "tar -xf '/", "a vm'\\''s.ova'"],
  },
  {
    title: 'a ZIP archive, with the way out',
    make: (dir) => file(dir, Buffer.from('PK\x03\x04'.padEnd(100, '\0'))),
    kind: 'format',
    words: ['not a qcow2 image', 'ZIP', 'unzip /'],
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
