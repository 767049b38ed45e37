import {
  addExtension,
  EXTENSION,
  patchBytes,
  patchField,
  patchNumber,
  readBytes,
  readField,
  removeExtension,
  snapshotEntryOffset,
  truncateImage,
} from '../support/damage.js';
import { createImage, imagePath, MiB, takeSnapshot } from '../support/images.js';
import { patternBytes } from '../support/pattern.js';
import { describeRefusals, type Refusal } from '../support/refusals.js';
import { damaged, field } from './damaged-header.js';

function withSnapshot(damage: (entry: number, image: string) => void): Refusal['make'] {
  return (dir) => {
    const image = createImage(dir, { size: 2 * MiB });
    takeSnapshot(image, 'before', '1');
    damage(snapshotEntryOffset(imagePath(image), 0), imagePath(image));
    return imagePath(image);
  };
}

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
    title: 'an L1 table outside the file, to be written',
    make: field('l1TableOffset', 1n << 40n),
    access: [],
    kind: 'format',
    words: ['L1 table', '0x10000000000', 'outside the file', 'mount it with -r'],
  },
  {
    title: 'an L1 table offset beyond 2^53',
    make: field('l1TableOffset', 0xffff_ffff_ffff_0000n),
    kind: 'format',
    words: ['image.qcow2'],
  },
  {
    title: 'an image cut before its L1 table, to be written',
    make: damaged((image) => truncateImage(image, Number(readField(image, 'l1TableOffset')))),
    access: [],
    kind: 'format',
    words: ['L1 table', 'outside the file', 'mount it with -r'],
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

const RESIZABLE = ['--resizable'];

describeRefusals('images that cannot grow', [
  {
    title: 'to let one of version 2 grow that has a snapshot, with the way out',
    make: (dir) => {
      const image = createImage(dir, { size: MiB, version: 2 });
      takeSnapshot(image, 'before', '1');
      return imagePath(image);
    },
    access: RESIZABLE,
    kind: 'unsupported',
    words: [
      'version 2 images with snapshots',
      'qemu-img amend -f qcow2 -o compat=1.1 /',
      'leave out --resizable',
    ],
  },
  {
    title: 'to let one grow whose snapshot has the size of its disk from the image, with the way out',
    make: (dir) => {
      const image = createImage(dir, { size: MiB });
      takeSnapshot(image, 'before', '1');
      const entry = snapshotEntryOffset(imagePath(image), 0);
      // Without the extra data: the ID and the name follow at once.
      const names = readBytes(imagePath(image), entry + 40 + 24, '1before'.length);
      patchNumber(imagePath(image), entry + 36, 4, 0);
      patchBytes(imagePath(image), entry + 40, names);
      return imagePath(image);
    },
    access: RESIZABLE,
    kind: 'unsupported',
    words: ['no disk size of its own', 'qcow2fs check --repair all /', 'leave out --resizable'],
  },
]);
