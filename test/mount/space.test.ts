/** A host that is full: writers learn of it, the image stays sound, and when there is room again all goes on. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type Defer, useCleanUp } from '../support/clean-up.js';
import { refusalOf, withFile } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  expectNoCorruption,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  writeSecret,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import { attachLoop } from '../support/loops.js';
import { daemonOf, isRunning, mountWritableOn } from '../support/mounts.js';
import { patternBytes } from '../support/pattern.js';
import { expectQcow2fs, keyOptions, qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

const { O_RDWR, O_WRONLY } = fs.constants;
const SIZE = 32 * MiB;
/** No multiple of a cluster, so that clusters are filled piece by piece. */
const BLOCK = 96 * KiB;
const BLOCKS = Math.floor(SIZE / BLOCK);
const BALLAST = 20 * MiB;

interface Host {
  readonly name: string;
  /** Mounts a file system with room for the ballast and a part of the disk. */
  mount(defer: Defer, place: string, backing: string): void;
}

const HOSTS: readonly Host[] = [
  {
    name: 'tmpfs',
    mount: (_, place) => void tool('mount', '-t', 'tmpfs', '-o', 'size=40m', 'none', place),
  },
  {
    name: 'ext4',
    mount: (defer, place, backing) => {
      fs.writeFileSync(backing, '');
      fs.truncateSync(backing, 48 * MiB);
      const loop = attachLoop(defer, backing);
      tool('mkfs.ext4', '-q', '-m', '0', loop);
      tool('mount', loop, place);
    },
  },
];

const KINDS: readonly { readonly name: string; spec(dir: string): ImageSpec }[] = [
  { name: 'a plain image', spec: () => ({}) },
  {
    name: 'a LUKS image with 4 KiB clusters',
    spec: (dir) => ({
      clusterSize: 4 * KiB,
      secret: writeSecret(dir, 'open sesame'),
      encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
    }),
  },
  { name: 'an image with 512-byte clusters', spec: () => ({ clusterSize: 512 }) },
  { name: 'an image with extended L2 entries', spec: () => ({ options: ['extended_l2=on'] }) },
];

function block(index: number): Buffer {
  return patternBytes(index, 0, BLOCK, 'noise');
}

describe('a full host', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const raw = path.join(scratch.dir, 'raw');

  /** An image on a small file system that a ballast file makes smaller. */
  function prepare(host: Host, spec: (dir: string) => ImageSpec): { image: Image; makeRoom(): void } {
    const dir = scratch.subdir();
    host.mount(defer, dir, `${dir}.backing`);
    // Lazily: a daemon that was just killed may still have a file open.
    defer(() => tool('umount', '-l', dir));
    const image = createImage(dir, { size: SIZE, ...spec(scratch.dir) });
    const ballast = path.join(dir, 'ballast');
    fs.writeFileSync(ballast, patternBytes(1, 0, BALLAST));
    withFile(ballast, 'r+', fs.fsyncSync);
    return { image, makeRoom: () => fs.rmSync(ballast) };
  }

  function mount(image: Image): { mountpoint: string; disk: string } {
    return mountWritableOn(defer, imagePath(image), scratch.subdir(), keyOptions(image));
  }

  /** @param written the blocks that must be there; all others hold theirs or zeros */
  function expectBlocks(image: Image, written: ReadonlySet<number>): void {
    convertToRaw(image, raw);
    withFile(raw, 'r', (fd) => {
      const bytes = Buffer.alloc(BLOCK);
      for (const index of written) {
        fs.readSync(fd, bytes, 0, BLOCK, index * BLOCK);
        expect(bytes.equals(block(index)), `block ${index}`).to.equal(true);
      }
    });
  }

  for (const [number, host] of HOSTS.entries()) {
    // Pairwise: the first kind on every host, each of the others on one.
    const some = KINDS.filter((_, index) => index === 0 || index % HOSTS.length === number);
    for (const { name, spec } of lane(some, KINDS)) {
      it(`refuses direct writes at once and goes on when there is room: ${name} on ${host.name}`, () => {
        const { image, makeRoom } = prepare(host, spec);
        const { mountpoint, disk } = mount(image);
        const written = new Set<number>();
        withFile(disk, O_WRONLY, (fd) => {
          const put = (index: number): string =>
            refusalOf(() => {
              const count = fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK);
              if (count === BLOCK) written.add(index);
            });
          let refused = 0;
          for (let index = 0; index < BLOCKS; index++) {
            const outcome = put(index);
            expect(outcome).to.be.oneOf(['nothing', 'ENOSPC']);
            if (outcome === 'ENOSPC') refused++;
          }
          expect(refused, 'refused').to.be.greaterThan(20);
          expect(written.size, 'written').to.be.greaterThan(20);
          makeRoom();
          // Everything that was acknowledged can still be brought to stable storage.
          fs.fsyncSync(fd);
          for (let index = 0; index < BLOCKS; index++) {
            if (!written.has(index)) expect(put(index), `block ${index}`).to.equal('nothing');
          }
          fs.fsyncSync(fd);
        });
        expectQcow2fs(['umount', mountpoint]);
        expect(written.size).to.equal(BLOCKS);
        checkImage(image);
        expectBlocks(image, written);
      });
    }

    it(`leaves a sound image with what was acknowledged before: on ${host.name}`, () => {
      const { image, makeRoom } = prepare(host, () => ({}));
      const { mountpoint, disk } = mount(image);
      const written = new Set<number>();
      withFile(disk, O_WRONLY, (fd) => {
        for (let index = 0; ; index++) {
          const outcome = refusalOf(() => {
            fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK);
            fs.fdatasyncSync(fd);
            written.add(index);
          });
          if (outcome === 'nothing') continue;
          expect(outcome).to.equal('ENOSPC');
          break;
        }
        expect(written.size).to.be.greaterThan(20);
      });
      expectQcow2fs(['umount', mountpoint]);
      expectNoCorruption(image);
      expectBlocks(image, written);
      makeRoom();
      checkImage(image);
    });

    it(`refuses buffered writes at fsync, and they succeed when there is room: on ${host.name}`, () => {
      const { image, makeRoom } = prepare(host, () => ({}));
      const { mountpoint, disk } = mount(image);
      const every = new Set(Array.from({ length: BLOCKS }, (_, index) => index));
      const putAll = (fd: number): void => {
        for (const index of every) fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK);
        fs.fsyncSync(fd);
      };
      withFile(disk, O_RDWR, (fd) => {
        expect(refusalOf(() => putAll(fd))).to.equal('ENOSPC');
        makeRoom();
        putAll(fd);
      });
      expectQcow2fs(['umount', mountpoint]);
      checkImage(image);
      expectBlocks(image, every);
    });

    it(`can be given room by holes in the disk itself: on ${host.name}`, () => {
      const { image } = prepare(host, () => ({}));
      const { mountpoint, disk } = mount(image);
      withFile(disk, O_WRONLY, (fd) => {
        let index = 0;
        const put = (): string => refusalOf(() => fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK));
        while (put() === 'nothing') index++;
        tool('fallocate', '--punch-hole', '--offset', '0', '--length', String(4 * MiB), disk);
        fs.fsyncSync(fd);
        expect(put()).to.equal('nothing');
      });
      expectQcow2fs(['umount', mountpoint]);
      checkImage(image);
    });
  }

  describe('that has less room than its file system believes', () => {
    /** The file system takes everything; its own device runs full when it writes that back. */
    function mountThin(): { image: Image; mountpoint: string; disk: string } {
      const below = scratch.subdir();
      tool('mount', '-t', 'tmpfs', '-o', 'size=12m', 'none', below);
      defer(() => tool('umount', '-l', below));
      const dir = scratch.subdir();
      HOSTS[1]!.mount(defer, dir, path.join(below, 'backing'));
      defer(() => tool('umount', '-l', dir));
      const image = createImage(dir, { size: SIZE });
      return { image, ...mount(image) };
    }

    function fill(fd: number): void {
      for (let index = 0; index < BLOCKS; index++) fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK);
    }

    for (const [way, flags] of [
      ['through', O_RDWR],
      ['past', O_WRONLY],
    ] as const) {
      it(`fails fsync after writes ${way} the page cache`, () => {
        const { image, mountpoint, disk } = mountThin();
        const fd = fs.openSync(disk, flags);
        fill(fd);
        expect(refusalOf(() => fs.fsyncSync(fd))).to.be.oneOf(['ENOSPC', 'EIO']);
        // It may be told again.
        expect(refusalOf(() => fs.closeSync(fd))).to.be.oneOf(['nothing', 'ENOSPC', 'EIO']);
        expect(qcow2fs(['umount', mountpoint]).status).to.equal(3);
        expectNoCorruption(image);
      });
    }

    it('is made known to who unmounts, when no writer asked', () => {
      const { image, mountpoint, disk } = mountThin();
      // Hardly any program looks at what close(2) says.
      const fd = fs.openSync(disk, O_WRONLY);
      fill(fd);
      expect(refusalOf(() => fs.closeSync(fd))).to.be.oneOf(['ENOSPC', 'EIO']);
      const { status, stderr } = qcow2fs(['umount', mountpoint]);
      expect(stderr).to.match(/^qcow2fs: [^\n]*writes may be lost[^\n]*\n$/);
      expect(stderr).to.contain(imagePath(image));
      expect(status).to.equal(3);
      expectNoCorruption(image);
    });

    it('is not taken for a failure of the next disk, which has the device number of this one', async () => {
      const { mountpoint, disk } = mountThin();
      const other = createImage(scratch.subdir(), { size: SIZE });
      const daemon = daemonOf(mountpoint);
      const { dev } = fs.statSync(mountpoint);
      const fd = fs.openSync(disk, O_WRONLY);
      fill(fd);
      expect(refusalOf(() => fs.closeSync(fd))).to.be.oneOf(['ENOSPC', 'EIO']);
      process.kill(daemon, 'SIGSTOP');
      // Without a look at what is mounted, which would wait for the daemon.
      tool('umount', '--no-canonicalize', '--internal-only', mountpoint);
      const next = mount(other);
      // Another program may have mounted something in between; then there is nothing to mistake.
      const same = fs.statSync(next.mountpoint).dev === dev ? 'the same' : 'another';
      process.kill(daemon, 'SIGCONT');
      await waitUntil('the first daemon has ended', () => !isRunning(daemon));
      expect(daemonOf(next.mountpoint), `${same} device number`).to.not.equal(daemon);
      expectQcow2fs(['umount', next.mountpoint]);
    });
  });

  it('loses nothing that was accepted when the disk is unmounted', () => {
    const { image } = prepare(HOSTS[0]!, () => ({ clusterSize: 512 }));
    const { mountpoint, disk } = mount(image);
    const written = new Set<number>();
    withFile(disk, O_WRONLY, (fd) => {
      let index = 0;
      const put = (): void => {
        const count = fs.writeSync(fd, block(index), 0, BLOCK, index * BLOCK);
        if (count === BLOCK) written.add(index++);
      };
      expect(
        refusalOf(() => {
          for (;;) put();
        }),
      ).to.equal('ENOSPC');
    });
    expect(qcow2fs(['umount', mountpoint])).to.deep.equal({ status: 0, stdout: '', stderr: '' });
    expectNoCorruption(image);
    expectBlocks(image, written);
  });
});
