/**
 * Conformance over libfuse, the transport that other platforms have: every image variant goes through a real libfuse
 * mount, to be read and to be written. Where it is found:
 *
 *   READING  all variants         suite.ts in this directory: every byte, or every probe, against the reference tools
 *   WRITING  what can be written  test/writing/differential.test.ts: random writes against a shadow and the reference
 *            the huge ones        here: writes around far places, which lie beyond what 32 and 40 bits can count
 *            what cannot be       here: snapshots, and images that are marked corrupt
 *
 * All of it is part of `make test`, which CI runs.
 */

import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { checkImage, convertToRaw } from '../support/images.js';
import { tryMount } from '../support/mounts.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { mountArguments, mountWritable } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import type { BuiltImage } from '../support/variant.js';
import { hugeVariants, unwritableVariants, variants, writableVariants } from '../support/variants.js';

const LIBFUSE = ['--transport', 'libfuse'];
const SEED = 7;
/** Of each probe: not at its start, no multiple of the sector, across the borders of most clusters. */
const SKIPPED = 3 * SECTOR_SIZE;
const LENGTH = 200_001;

/** What is written, by offset. */
function writesTo({ probes = [] }: BuiltImage): Map<number, Buffer> {
  return new Map(
    probes.map(({ offset, length }) => {
      const start = offset + SKIPPED;
      return [start, patternBytes(SEED, start, Math.min(LENGTH, length - SKIPPED))];
    }),
  );
}

function read(file: string, offset: number, length: number): Buffer {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    expect(fs.readSync(fd, bytes, 0, length, offset), `bytes at ${offset}`).to.equal(length);
    return bytes;
  } finally {
    fs.closeSync(fd);
  }
}

describe('conformance over libfuse', () => {
  it('leaves no variant out', () => {
    const parts = [hugeVariants, unwritableVariants, writableVariants];
    expect(new Set(parts.flat()).size).to.equal(variants.length);
    for (const part of parts) expect(part.length).to.be.above(4);
  });

  for (const variant of hugeVariants) {
    describe(variant.name, () => {
      const scratch = useScratch();
      let image: BuiltImage;

      before(() => {
        image = variant.build(scratch.dir);
      });

      it('is written at far places, and the reference reads it there', () => {
        const writes = writesTo(image);
        const { disk, unmount } = mountWritable(image.image, scratch.dir, LIBFUSE);
        const fd = fs.openSync(disk, 'r+');
        try {
          for (const [offset, bytes] of writes) {
            expect(fs.writeSync(fd, bytes, 0, bytes.length, offset), `at ${offset}`).to.equal(bytes.length);
          }
          fs.fsyncSync(fd);
        } finally {
          fs.closeSync(fd);
        }
        unmount();
        checkImage(image.source);
        const after = convertToRaw(image.source, 'after.raw');
        expect(fs.statSync(after).size).to.equal(fs.statSync(image.expected).size);
        for (const { offset, length } of image.probes!) {
          const want = read(image.expected, offset, length);
          for (const [start, bytes] of writes) {
            const from = start - offset;
            if (from < length && from + bytes.length > 0) {
              bytes.copy(want, Math.max(0, from), Math.max(0, -from));
            }
          }
          expect(read(after, offset, length).equals(want), `probe at ${offset}`).to.equal(true);
        }
      });
    });
  }

  for (const variant of unwritableVariants) {
    describe(variant.name, () => {
      const scratch = useScratch();
      const defer = useCleanUp();

      it('takes no writes', () => {
        const image = variant.build(scratch.dir);
        const before = sha256(image.image);
        const mountpoint = scratch.subdir();
        const args = [...LIBFUSE, '--log', `${mountpoint}.log`, ...mountArguments(image), image.image];
        const { status, stderr } = tryMount(defer, args, mountpoint);
        if (status === 0) {
          expect(() => fs.openSync(`${mountpoint}/disk.raw`, 'r+')).to.throw(/EROFS|EACCES/);
        } else {
          expect(stderr).to.contain('corrupt');
          expect(status).to.equal(4);
        }
        expect(sha256(image.image)).to.equal(before);
      });
    });
  }
});
