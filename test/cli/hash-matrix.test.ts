/** `qcow2fs hash` of every image of the matrix: the digest of the raw file that the reference tools made of it. */

import fs from 'node:fs';
import { expect } from 'chai';
import { sha256 } from '../support/files.js';
import { MiB } from '../support/images.js';
import { BIN, expectQcow2fs, mountArguments } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import type { BuiltImage } from '../support/variant.js';
import { variants } from '../support/variants.js';

const THREADS = ['1', '2', '3'];
/** Disks that are too large to be hashed as a whole are hashed in pieces of this size. */
const PIECE = 64 * MiB;

describe('qcow2fs hash, image by image', () => {
  const scratch = useScratch();
  const zeros = run('sh', ['-c', `head -c ${PIECE} /dev/zero | sha256sum`]).slice(0, 64);

  /** Pieces with data have the digests of theirs, and all others that of zeros. */
  function checkPieces({ image, expected, probes = [] }: BuiltImage, args: readonly string[]): void {
    const output = scratch.path('pieces');
    run('sh', ['-c', 'out=$1; shift; "$@" > "$out"', 'sh', output, BIN, 'hash', ...args, image]);
    const lines = fs.readFileSync(output, 'utf8').trimEnd().split('\n');
    expect(lines).to.have.length(Math.ceil(fs.statSync(expected).size / PIECE));
    const touched = new Set<number>();
    for (const { offset, length } of probes) {
      for (let piece = Math.floor(offset / PIECE); piece * PIECE < offset + length; piece++)
        touched.add(piece);
    }
    for (const [piece, line] of lines.entries()) {
      const start = piece * PIECE;
      const digest = touched.has(piece) ? sumOfPiece(expected, piece) : zeros;
      if (line !== `${digest}  disk.raw offset ${start}-${start + PIECE - 1}`)
        expect(line).to.contain(digest);
    }
  }

  const sumOfPiece = (file: string, piece: number): string =>
    run('sh', [
      '-c',
      `dd status=none bs=${PIECE} skip=${piece} count=1 if="$1" | sha256sum`,
      'sh',
      file,
    ]).slice(0, 64);

  for (const [index, { name, build }] of variants.entries()) {
    it(`gives the digest of what the reference tools read: ${name}`, () => {
      const image = build(scratch.subdir());
      const args = [...mountArguments(image), '--threads', THREADS[index % THREADS.length]!];
      if (image.probes !== undefined) checkPieces(image, [...args, '--piecewise', String(PIECE)]);
      else {
        expect(expectQcow2fs(['hash', ...args, image.image])).to.equal(
          `${sha256(image.expected)}  disk.raw\n`,
        );
      }
    });
  }
});
