/** Real use: file systems made, filled, trimmed and checked on a disk that is mounted for writing. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { bytesOnHost, hashTree, sha256 } from '../support/files.js';
import { richGuest } from '../support/guests.js';
import {
  checkImage,
  checkSnapshot,
  convertToRaw,
  createImage,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  type TakenSnapshot,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import { attachLoop, attachPartition, detachLoop } from '../support/loops.js';
import { keyOptions, mountReadOnly, mountWritable, ROOT } from '../support/qcow2fs.js';
import { run, tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

/** What goes into the file systems: trees that are copied, one that is packed and unpacked, and one large file. */
const MODULES = path.join(ROOT, 'node_modules');
const COPIED = lane(
  ['mocha', 'chai', 'glob', 'diff'],
  ['mocha', 'chai', 'glob', 'lru-cache', 'diff', 'typescript'],
);
const PACKED = '@types';
const isThorough = lane(false, true);
const LARGE = lane(12, 24) * MiB;

interface FileSystem {
  readonly type: string;
  /** Of the disk. */
  readonly size: number;
  make(device: string): void;
  /** Fails when the file system is not clean. Changes nothing. */
  check(device: string): void;
}

const ext4: FileSystem = {
  type: 'ext4',
  size: 128 * MiB,
  make: (device) => void tool('mkfs.ext4', '-q', device),
  check: (device) => void tool('e2fsck', '-f', '-n', device),
};
const xfs: FileSystem = {
  type: 'xfs',
  size: 320 * MiB,
  make: (device) => void tool('mkfs.xfs', '-q', device),
  check: (device) => void tool('xfs_repair', '-n', ...(isDevice(device) ? [] : ['-f']), device),
};
const btrfs: FileSystem = {
  type: 'btrfs',
  size: 192 * MiB,
  make: (device) => void tool('mkfs.btrfs', '-q', device),
  check: (device) => void tool('btrfs', 'check', device),
};

function isDevice(name: string): boolean {
  return fs.statSync(name).isBlockDevice();
}

interface Kind {
  readonly name: string;
  readonly fileSystems: readonly FileSystem[];
  readonly spec: (dir: string) => ImageSpec;
  readonly mountOptions?: readonly string[];
  /** libfuse 2 has no fallocate(2). */
  readonly trims?: false;
  /** Before the disk is used. */
  readonly prepare?: (image: Image) => void;
  /** Beside `qemu-img check`, when all is over. `raw` is the guest's view. */
  readonly verify?: (image: Image, raw: string) => void;
}

const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

function snapshotted(): Pick<Kind, 'prepare' | 'verify'> {
  let taken: TakenSnapshot;
  return {
    prepare: (image) => {
      writeSteps(image, 1, richGuest(32 * MiB, MiB));
      taken = takeSnapshot(image, 'before', '1');
    },
    verify: (image) => checkSnapshot(image, taken),
  };
}

const KINDS: readonly Kind[] = [
  { name: 'a plain image', fileSystems: lane([ext4], [ext4, xfs, btrfs]), spec: () => ({}) },
  {
    name: 'a LUKS image',
    fileSystems: lane([btrfs], [ext4, btrfs]),
    spec: (dir) => ({ secret: writeSecret(dir, 'open sesame'), encryption: LUKS }),
  },
  { name: 'an image with 2 MiB clusters', fileSystems: [xfs], spec: () => ({ clusterSize: 2 * MiB }) },
  { name: 'an image with 512-byte clusters', fileSystems: [ext4], spec: () => ({ clusterSize: 512 }) },
  {
    name: 'an image with extended L2 entries',
    fileSystems: [btrfs],
    spec: () => ({ clusterSize: 128 * KiB, options: ['extended_l2=on'] }),
  },
  {
    name: 'an image with a raw external data file',
    fileSystems: [xfs],
    spec: () => ({ options: ['data_file=data.raw', 'data_file_raw=on'] }),
    verify: ({ dir }, raw) => void run('cmp', [path.join(dir, 'data.raw'), raw]),
  },
  {
    name: 'an image with a snapshot',
    fileSystems: lane([ext4], [ext4, xfs]),
    spec: () => ({}),
    ...snapshotted(),
  },
  {
    name: 'an overlay on an overlay',
    fileSystems: [ext4],
    spec: (dir) => {
      const base = createImage(dir, { name: 'base.qcow2', size: ext4.size, clusterSize: 4 * KiB });
      writeSteps(base, 1, richGuest(ext4.size, 2 * MiB));
      const backing = { file: 'base.qcow2', format: 'qcow2' } as const;
      const middle = createImage(dir, { name: 'middle.qcow2', size: 64 * MiB, backing });
      writeSteps(middle, 2, [{ do: 'compressed', offset: MiB, length: 8 * MiB }]);
      return { backing: { file: 'middle.qcow2', format: 'qcow2' } };
    },
  },
  {
    name: 'a plain image with the libfuse transport',
    fileSystems: [ext4],
    spec: () => ({}),
    mountOptions: ['--transport', 'libfuse'],
    trims: false,
  },
];

describe('a file system on a disk that is mounted for writing', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const inside = scratch.subdir();

  /** Mounts a file system below the test's directory; gives what unmounts it. */
  function enter({ type }: FileSystem, device: string, options: string): () => void {
    tool('mount', '-t', type, '-o', options, device, inside);
    let isMounted = true;
    const leave = (): void => {
      if (isMounted) tool('umount', inside);
      isMounted = false;
    };
    defer(leave);
    return leave;
  }

  function fill(): void {
    const copies = path.join(inside, 'copies');
    fs.mkdirSync(copies);
    tool('cp', '-a', ...COPIED.map((name) => path.join(MODULES, name)), copies);
    const archive = path.join(inside, 'archive.tar');
    tool('tar', '-C', MODULES, '-cf', archive, PACKED);
    tool('tar', '-C', inside, '-xf', archive);
    tool('dd', 'if=/dev/urandom', `of=${path.join(inside, 'large')}`, 'bs=1M', `count=${LARGE / MiB}`);
    tool('sync', path.join(inside, 'large'), copies);
    tool('sync', '--file-system', inside);
  }

  /**
   * Removes the large file and expects that the image gives back what it took.
   * @param remount unmounts and mounts the file system: what XFS frees can be trimmed a while later, or then
   */
  function trim(disk: string, files: readonly string[], remount: () => void): void {
    const onHost = (): number => files.reduce((sum, file) => sum + bytesOnHost(file), 0);
    tool('sync', disk);
    const before = onHost();
    fs.rmSync(path.join(inside, 'large'));
    remount();
    tool('fstrim', inside);
    tool('sync', disk);
    expect(before - onHost()).to.be.greaterThan(LARGE / 2);
  }

  for (const kind of KINDS) {
    for (const fileSystem of kind.fileSystems) {
      it(`keeps everything: ${fileSystem.type} on ${kind.name}`, async () => {
        const dir = scratch.subdir();
        const image = createImage(dir, { size: fileSystem.size, ...kind.spec(dir) });
        kind.prepare?.(image);
        const options = [...keyOptions(image), ...(kind.mountOptions ?? [])];
        const { disk, unmount } = mountWritable(imagePath(image), dir, options);
        const loop = attachLoop(defer, disk);
        fileSystem.make(loop);
        let leave = enter(fileSystem, loop, 'rw');
        fill();
        if (kind.trims !== false) {
          const files = ['image.qcow2', 'data.raw'].map((name) => path.join(dir, name));
          trim(disk, files.filter(fs.existsSync), () => {
            leave();
            leave = enter(fileSystem, loop, 'rw');
          });
        }
        const expected = hashTree(inside);
        expect(Object.keys(expected)).to.have.length.greaterThan(lane(200, 300));
        leave();
        fileSystem.check(loop);
        await detachLoop(loop);
        const seen = sha256(disk);
        unmount();

        checkImage(image);
        const raw = convertToRaw(image);
        // The bytes are those of the disk, which was checked above.
        expect(sha256(raw)).to.equal(seen);
        if (isThorough) fileSystem.check(raw);
        kind.verify?.(image, raw);

        const again = mountReadOnly(imagePath(image), dir, options);
        const readOnlyLoop = attachLoop(defer, again.disk, '--read-only');
        if (isThorough) fileSystem.check(readOnlyLoop);
        const leaveAgain = enter(fileSystem, readOnlyLoop, 'ro');
        expect(hashTree(inside)).to.deep.equal(expected);
        leaveAgain();
        await detachLoop(readOnlyLoop);
        again.unmount();
        fs.rmSync(dir, { recursive: true });
      });
    }
  }

  it('is found by the FUSE export of QEMU', async () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: ext4.size });
    const { disk, unmount } = mountWritable(imagePath(image), dir);
    const loop = attachLoop(defer, disk);
    ext4.make(loop);
    const leave = enter(ext4, loop, 'rw');
    fill();
    const expected = hashTree(inside);
    leave();
    await detachLoop(loop);
    unmount();

    const file = path.join(dir, 'exported.raw');
    const pidFile = path.join(dir, 'qsd.pid');
    fs.writeFileSync(file, '');
    run('qemu-storage-daemon', [
      ...['--daemonize', '--pidfile', pidFile],
      '--blockdev',
      `driver=qcow2,node-name=disk,read-only=on,file.driver=file,file.filename=${imagePath(image)}`,
      ...['--export', `type=fuse,id=export,node-name=disk,mountpoint=${file},writable=off`],
    ]);
    defer(() => process.kill(Number(fs.readFileSync(pidFile, 'utf8')), 'SIGTERM'));
    const exported = attachLoop(defer, file, '--read-only');
    ext4.check(exported);
    const leaveAgain = enter(ext4, exported, 'ro');
    expect(hashTree(inside)).to.deep.equal(expected);
    leaveAgain();
    await detachLoop(exported);
  });

  it('can lie in a partition that was made there', async () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: ext4.size + 2 * MiB });
    const { disk, unmount } = mountWritable(imagePath(image), dir);
    run('sfdisk', ['-q', disk], {
      input: `label: gpt\nstart=1MiB, size=${ext4.size / MiB}MiB\n`,
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    });
    const partition = attachPartition(defer, disk, true);
    ext4.make(partition);
    const leave = enter(ext4, partition, 'rw');
    fill();
    const expected = hashTree(inside);
    leave();
    ext4.check(partition);
    const attached = tool('losetup', '--associated', disk).trim().split('\n');
    for (const line of attached) await detachLoop(line.split(':')[0]!);
    unmount();

    checkImage(image);
    const raw = convertToRaw(image);
    tool('sfdisk', '--verify', raw);
    const again = mountReadOnly(imagePath(image), dir);
    expect(sha256(again.disk)).to.equal(sha256(raw));
    const partitionAgain = attachPartition(defer, again.disk);
    ext4.check(partitionAgain);
    const leaveAgain = enter(ext4, partitionAgain, 'ro');
    expect(hashTree(inside)).to.deep.equal(expected);
    leaveAgain();
  });
});
