/** The main job: a file system inside an image inside a loop device. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { hashTree } from '../support/files.js';
import {
  createImage,
  imagePath,
  MiB,
  qemuImg,
  type Secret,
  secretObject,
  writeSecret,
} from '../support/images.js';
import { attachLoop, attachPartition } from '../support/loops.js';
import { patternBytes } from '../support/pattern.js';
import { mountReadOnly } from '../support/qcow2fs.js';
import { run, tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const PARTITION_START = MiB;

interface FileSystem {
  readonly name: string;
  /** Of the partition: MiB. */
  readonly size: number;
  readonly make: (device: string) => void;
  readonly mountOptions: string;
}

const FILE_SYSTEMS: readonly FileSystem[] = [
  {
    name: 'ext4',
    size: 32,
    make: (device) => void tool('mkfs.ext4', '-q', device),
    mountOptions: 'ro,noload',
  },
  {
    name: 'xfs',
    size: 320,
    make: (device) => void tool('mkfs.xfs', '-q', device),
    mountOptions: 'ro,norecovery',
  },
  { name: 'btrfs', size: 128, make: (device) => void tool('mkfs.btrfs', '-q', device), mountOptions: 'ro' },
];

/** How the raw disk is turned into an image; the LUKS image takes the key. */
const IMAGES: readonly {
  name: string;
  encrypted?: boolean;
  convert: (dir: string, secret: Secret) => void;
}[] = [
  { name: 'a plain image', convert: (dir) => convert(dir, ['-o', 'cluster_size=4k']) },
  { name: 'a compressed image', convert: (dir) => convert(dir, ['-c', '-o', 'compression_type=zstd']) },
  { name: 'a LUKS image', encrypted: true, convert: convertToLuks },
];

function convert(dir: string, options: readonly string[]): void {
  qemuImg(dir, ['convert', '-f', 'raw', '-O', 'qcow2', ...options, 'disk.raw', 'image.qcow2']);
}

function convertToLuks(dir: string, secret: Secret): void {
  const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
  const size = fs.statSync(path.join(dir, 'disk.raw')).size;
  createImage(dir, { name: 'image.qcow2', size, secret, encryption });
  const target = 'driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=key';
  const source = ['-f', 'raw', 'disk.raw'];
  qemuImg(dir, ['convert', ...secretObject(secret), '-n', '--target-image-opts', ...source, target]);
}

describe('a file system in a mounted disk', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const inside = scratch.subdir();

  function makeDisk(dir: string, { make, size, name }: FileSystem): Record<string, string> {
    const disk = path.join(dir, 'disk.raw');
    fs.writeFileSync(disk, '');
    fs.truncateSync(disk, (size + 2) * MiB);
    run('sfdisk', ['-q', disk], {
      input: `label: gpt\nstart=1MiB, size=${size}MiB\n`,
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    });
    const window = ['--offset', String(PARTITION_START), '--sizelimit', String(size * MiB)];
    const loop = attachLoop(defer, disk, ...window);
    make(loop);
    const mounted = path.join(dir, 'making');
    fs.mkdirSync(mounted);
    tool('mount', '-t', name, loop, mounted);
    try {
      fs.mkdirSync(path.join(mounted, 'some directory/grün'), { recursive: true });
      for (const [index, length] of [0, 1, 511, 70_000, 3 * MiB + 17].entries()) {
        const data = patternBytes(index, 0, length, index % 2 === 0 ? 'noise' : 'mixed');
        fs.writeFileSync(path.join(mounted, `some directory/${index}`), data);
      }
      fs.writeFileSync(path.join(mounted, 'some directory/grün/readme.txt'), 'a small file\n');
      const sparse = fs.openSync(path.join(mounted, 'sparse'), 'w');
      fs.writeSync(sparse, 'far away', 5 * MiB);
      fs.closeSync(sparse);
      return hashTree(mounted);
    } finally {
      tool('umount', mounted);
      tool('losetup', '--detach', loop);
    }
  }

  for (const fileSystem of FILE_SYSTEMS) {
    describe(fileSystem.name, () => {
      const dir = scratch.subdir();
      const secret = writeSecret(scratch.dir, 'open sesame');
      let expected: Record<string, string>;

      before(() => {
        expected = makeDisk(dir, fileSystem);
      });

      for (const image of IMAGES) {
        it(`can be mounted through a loop device and has all its files, from ${image.name}`, () => {
          image.convert(dir, secret);
          defer(() => fs.rmSync(path.join(dir, 'image.qcow2')));
          const key = image.encrypted ? ['--secret-file', secret.file] : [];
          const { disk } = mountReadOnly(imagePath({ dir, name: 'image.qcow2', openOptions: [] }), dir, key);
          const partition = attachPartition(defer, disk);
          tool('mount', '-t', fileSystem.name, '-o', fileSystem.mountOptions, partition, inside);
          defer(() => void tool('umount', inside));
          expect(Object.keys(expected)).to.have.length(7);
          expect(hashTree(inside)).to.deep.equal(expected);
        });
      }
    });
  }
});
