/**
 * Kinds of images through the kernel and through libfuse, read and written. Every kind as a `Disk`: test/matrix. The
 * format has little to do with the transport, so `make test` mounts some, `make test-long` all of them.
 */
import fs from 'node:fs';
import { expect } from 'chai';
import { seekData, seekHole } from '../../src/host/libc.js';
import { useCleanUp } from '../support/clean-up.js';
import { sha256, withFile } from '../support/files.js';
import { checkImage } from '../support/images.js';
import { lane } from '../support/lane.js';
import { openMounted } from '../support/mounted-target.js';
import { tryMount } from '../support/mounts.js';
import { pairwise } from '../support/pairwise.js';
import { expectPresented, type Presented, type Range } from '../support/presented.js';
import { mountArguments, mountReadOnly, mountWritable } from '../support/qcow2fs.js';
import { RandomGuest, randomNumbers } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { threadCounts } from '../support/threads.js';
import type { BuiltImage, Variant } from '../support/variant.js';
import { hugeVariants, unwritableVariants, variants } from '../support/variants.js';
import { expectContent, expectWrittenFarAway, writeFarAway } from '../support/writes.js';

const KERNEL_VARIANTS = pairwise(variants, lane(25, variants.length));
const LIBFUSE_VARIANTS = pairwise(variants, lane(8, variants.length));
const OPERATIONS = Number(process.env['QCOW2FS_OPERATIONS'] ?? 50);
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 2);
/** A disk in many pieces is counted while it is mounted, and the kernel remembers for a second what it was told. */
const COUNTING_MS = 60_000;
const POLL_MS = 20;

type Transport = 'kernel' | 'libfuse';

const clock = new Int32Array(new SharedArrayBuffer(4));

function present(fd: number, transport: Transport): Presented {
  const { size } = fs.fstatSync(fd);
  return {
    size,
    read: (target, length, offset) => {
      expect(fs.readSync(fd, target, 0, length, offset), `bytes read at ${offset}`).to.equal(length);
    },
    holes: transport === 'kernel' ? holesOf(fd, size) : undefined,
    allocated: (expected) => {
      const deadline = performance.now() + COUNTING_MS;
      const allocated = (): number => fs.fstatSync(fd).blocks * 512;
      while (allocated() !== expected && performance.now() < deadline) Atomics.wait(clock, 0, 0, POLL_MS);
      return allocated();
    },
  };
}

function holesOf(fd: number, size: number): Range[] {
  const holes: Range[] = [];
  for (let at = 0; at < size; ) {
    const hole = seekHole(fd, at) ?? size;
    const data = hole < size ? (seekData(fd, hole) ?? size) : size;
    if (data > hole) holes.push({ offset: hole, length: data - hole });
    at = data;
  }
  return holes;
}

function describeVariant(variant: Variant, transport: Transport, args: readonly string[]): void {
  describe(variant.name, () => {
    const scratch = useScratch();
    const defer = useCleanUp();
    let image: BuiltImage;

    before(() => {
      image = variant.build(scratch.dir);
    });

    it('reads as the reference reads it', () => {
      const mounted = mountReadOnly(image.image, scratch.dir, [...args, ...mountArguments(image)]);
      withFile(mounted.disk, 'r', (fd) => expectPresented(present(fd, transport), image));
      mounted.unmount();
    });

    if (unwritableVariants.includes(variant)) {
      it('takes no writes', () => {
        const before = sha256(image.image);
        const mountpoint = scratch.subdir();
        const all = [...args, '--log', `${mountpoint}.log`, ...mountArguments(image), image.image];
        const { status, stderr } = tryMount(defer, all, mountpoint);
        if (status === 0) {
          expect(() => fs.openSync(`${mountpoint}/disk.raw`, 'r+')).to.throw(/EROFS|EACCES/);
        } else {
          expect(stderr).to.contain('corrupt');
          expect(status).to.equal(4);
        }
        expect(sha256(image.image)).to.equal(before);
      });
    } else if (hugeVariants.includes(variant)) {
      it('is written at far places, and the reference reads it there', () => {
        const { disk, unmount } = mountWritable(image.image, scratch.dir, [...args]);
        const writes = withFile(disk, 'r+', (fd) => {
          const writes = writeFarAway(image, (bytes, offset) => {
            expect(fs.writeSync(fd, bytes, 0, bytes.length, offset)).to.equal(bytes.length);
          });
          fs.fsyncSync(fd);
          return writes;
        });
        unmount();
        expectWrittenFarAway(image, writes);
      });
    } else {
      it('is clean after random writes, and reads as it was written', () => {
        const random = randomNumbers(SEED);
        // libfuse 2 has no fallocate(2).
        const erasing = transport === 'libfuse' ? 0 : 0.25;
        const guest = new RandomGuest(fs.readFileSync(image.expected), random, { erasing });
        const { disk, unmount } = mountWritable(image.image, scratch.dir, [
          ...args,
          ...mountArguments(image),
        ]);
        const target = openMounted(disk, random);
        try {
          for (let i = 0; i < OPERATIONS; i++) guest.step(target);
          guest.checkAll(target);
        } finally {
          target.close();
        }
        unmount();
        checkImage(image.source);
        expectContent(image, guest.shadow);
      });
    }
  });
}

describe('images through the kernel transport', () => {
  for (const [index, variant] of KERNEL_VARIANTS.entries()) {
    for (const threads of threadCounts(index)) {
      describe(`with --threads ${threads}`, () => {
        describeVariant(variant, 'kernel', ['--transport', 'kernel', '--threads', String(threads)]);
      });
    }
  }
});

describe('images through libfuse', () => {
  for (const variant of LIBFUSE_VARIANTS) describeVariant(variant, 'libfuse', ['--transport', 'libfuse']);
});

describe('the variants', () => {
  it('are each huge, not to be written, or written at random', () => {
    expect(hugeVariants.filter((variant) => unwritableVariants.includes(variant))).to.deep.equal([]);
    for (const part of [hugeVariants, unwritableVariants]) expect(part.length).to.be.above(4);
  });
});
