/** The digests that `qcow2fs hash` computes of an image of the matrix, beside those of the reference's raw file. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'chai';
import { sha256 } from '../support/files.js';
import { MiB, TiB } from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { mountArguments } from '../support/qcow2fs.js';
import type { BuiltImage } from '../support/variant.js';

/** Disks that are too large to be hashed as a whole are hashed in pieces, of so many bytes up to 2 TiB. */
const PIECE = 16 * MiB;
const PIECE_OF_LARGER = 64 * MiB;

export async function expectHashed(image: BuiltImage, threads: number): Promise<void> {
  const args = ['hash', ...mountArguments(image), '--threads', String(threads)];
  if (image.probes !== undefined) {
    const piece = fs.statSync(image.expected).size > 2 * TiB ? PIECE_OF_LARGER : PIECE;
    const output = await expectInProcess([...args, '--piecewise', String(piece), image.image]);
    expectPieces(image, piece, output);
    return;
  }
  const line = `${sha256(image.expected)}  disk.raw\n`;
  expect(await expectInProcess([...args, image.image])).to.equal(line);
}

/** Pieces with data have the digests of theirs, and all others that of zeros. */
function expectPieces({ expected, probes = [] }: BuiltImage, pieceBytes: number, output: string): void {
  const zeros = digest(Buffer.alloc(pieceBytes));
  const lines = output.trimEnd().split('\n');
  expect(lines).to.have.length(Math.ceil(fs.statSync(expected).size / pieceBytes));
  const touched = new Set<number>();
  for (const { offset, length } of probes) {
    for (let piece = Math.floor(offset / pieceBytes); piece * pieceBytes < offset + length; piece++)
      touched.add(piece);
  }
  const size = fs.statSync(expected).size;
  for (const [piece, line] of lines.entries()) {
    const start = piece * pieceBytes;
    const length = Math.min(pieceBytes, size - start);
    const sum = touched.has(piece) ? digest(bytesOf(expected, start, length)) : zeros;
    const want = `${sum}  disk.raw offset ${start}-${start + length - 1}`;
    // Chai takes its time, and a disk may have a hundred thousand pieces.
    if (line !== want) expect(line).to.equal(want);
  }
}

function bytesOf(file: string, offset: number, length: number): Buffer {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    expect(fs.readSync(fd, bytes, 0, length, offset)).to.equal(length);
    return bytes;
  } finally {
    fs.closeSync(fd);
  }
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
