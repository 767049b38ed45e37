import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { openDisk } from '../../../src/qcow2/chain.js';
import { frameEnd, inflateZstd, portableZstd, prepareZstd } from '../../../src/qcow2/zstd.js';
import { patchBytes, patchL2 } from '../../support/damage.js';
import { createImage, imagePath, qemuIo } from '../../support/images.js';
import { useScratch } from '../../support/scratch.js';

const CLUSTER = 64 * 1024;

const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const GARBAGE = Buffer.from('what follows is not ours');

function block(type: number, size: number, last: boolean, content: Buffer): Buffer {
  const head = Buffer.alloc(3);
  head.writeUIntLE((size << 3) | (type << 1) | Number(last), 0, 3);
  return Buffer.concat([head, content]);
}

const raw = (text: string, last = true): Buffer => block(0, text.length, last, Buffer.from(text));
const rle = (letter: string, count: number, last = true): Buffer =>
  block(1, count, last, Buffer.from(letter));

/** RFC 8878, 3.1.1: a frame without content size and checksum, with a window of 1 KiB. */
const frame = (...blocks: Buffer[]): Buffer => Buffer.concat([MAGIC, Buffer.from([0, 0]), ...blocks]);

/** A frame that is a single segment and says its content size in one byte. */
const sized = (size: number, ...blocks: Buffer[]): Buffer =>
  Buffer.concat([MAGIC, Buffer.from([0x20, size]), ...blocks]);

function skippable(length: number, kind = 0): Buffer {
  const bytes = Buffer.alloc(8 + length, 0x77);
  bytes.writeUInt32LE(0x184d2a50 + kind, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

function inflate(size: number, ...parts: Buffer[]): string | false {
  const target = Buffer.alloc(size, '.');
  return inflateZstd(Buffer.concat(parts), target) ? target.toString() : false;
}

describe('the end of a zstd frame', () => {
  const frames = {
    'without a content size': frame(raw('abc')),
    'with a content size': sized(3, raw('abc')),
    'of several blocks': frame(raw('abc', false), rle('x', 100, false), raw('')),
    'with a checksum': Buffer.concat([MAGIC, Buffer.from([4, 0]), raw('abc'), Buffer.alloc(4)]),
    'with a dictionary ID': Buffer.concat([MAGIC, Buffer.from([3, 0, 1, 2, 3, 4]), raw('abc')]),
    'with a content size of 8 bytes': Buffer.concat([
      MAGIC,
      Buffer.from([0xc0, 0]),
      Buffer.alloc(8),
      raw('abc'),
    ]),
    'that is skippable': skippable(5, 15),
  };
  for (const [name, bytes] of Object.entries(frames)) {
    it(`is found: ${name}`, () => {
      expect(frameEnd(bytes, 0)).to.equal(bytes.length);
      expect(frameEnd(Buffer.concat([GARBAGE, bytes, GARBAGE]), GARBAGE.length)).to.equal(
        GARBAGE.length + bytes.length,
      );
    });

    it(`is undefined wherever it is cut: ${name}`, () => {
      for (let length = 0; length < bytes.length; length++) {
        expect(frameEnd(bytes.subarray(0, length), 0)).to.equal(undefined);
      }
    });
  }

  it('is undefined without the magic, and for a reserved block', () => {
    expect(frameEnd(GARBAGE, 0)).to.equal(undefined);
    expect(frameEnd(frame(block(3, 1, true, Buffer.from('x'))), 0)).to.equal(undefined);
  });
});

describe('a zstd cluster', () => {
  before(prepareZstd);

  it('is filled by one frame or several, whatever follows', () => {
    expect(inflate(6, frame(raw('abcdef')))).to.equal('abcdef');
    expect(inflate(6, frame(raw('abc')), sized(3, rle('x', 3)), GARBAGE)).to.equal('abcxxx');
    expect(inflate(3, frame(raw('abc')), frame(raw('def')))).to.equal('abc');
  });

  it('passes over skippable frames', () => {
    expect(inflate(3, skippable(9), frame(raw('ab')), skippable(0), frame(raw('c')))).to.equal('abc');
  });

  it('of frames that are too few, cut short or too long is refused', () => {
    const abc = frame(raw('abc'));
    expect(inflate(4, abc)).to.equal(false);
    expect(inflate(4, abc, GARBAGE)).to.equal(false);
    expect(inflate(3, abc.subarray(0, -1))).to.equal(false);
    expect(inflate(2, abc)).to.equal(false);
    expect(inflate(3)).to.equal(false);
  });

  it('that is damaged never gives the bytes of the frame behind it', () => {
    const next = frame(raw('XXX'));
    // A compressed block whose literals section claims more than there is.
    const broken = frame(block(2, 4, true, Buffer.from([0xff, 0xff, 0xff, 0xff])));
    expect(inflate(3, broken, next)).to.equal(false);
    const lying = Buffer.concat([MAGIC, Buffer.from([0x24, 3]), raw('abc'), Buffer.alloc(4)]);
    expect(inflate(3, lying, next)).not.to.equal('XXX');
    expect(inflate(6, frame(raw('abc')), broken, next)).to.equal(false);
  });
});

describe('a zstd cluster, as QEMU reads it', () => {
  const scratch = useScratch();
  const image = createImage(scratch.dir, { size: CLUSTER, options: ['compression_type=zstd'] });
  qemuIo(image, ['write -q 0 64k']);
  const file = imagePath(image);
  const end = fs.statSync(file).size;

  /** RFC 8878, 3.1.1.1.2: the byte that says how large the window is. */
  const windowed = (window: number, ...blocks: Buffer[]): Buffer =>
    Buffer.concat([MAGIC, Buffer.from([0, window]), ...blocks]);
  const summed = (sum: string, ...blocks: Buffer[]): Buffer =>
    Buffer.concat([MAGIC, Buffer.from([4, 0x30]), ...blocks, Buffer.from(sum, 'hex')]);
  const all = windowed(0x30, rle('x', CLUSTER));
  const half = windowed(0x30, rle('h', CLUSTER / 2));
  const cases: Readonly<Record<string, readonly Buffer[]>> = {
    'skippable frames first, between and last': [skippable(9), half, skippable(0, 15), half, skippable(3)],
    'a great many skippable frames': [...new Array<Buffer>(7000).fill(skippable(0)), all],
    'only skippable frames': [skippable(100), skippable(0)],
    'a skippable frame that is longer than what there is': [skippable(60_000).subarray(0, 100), all],
    'frames of nothing': [frame(raw('')), half, sized(0, raw('')), frame(rle('x', 0)), half],
    'a frame of nothing, with its checksum': [summed('99e9d851', raw('')), all],
    'a frame of nothing, with a wrong checksum': [summed('00000000', raw('')), all],
    'a last block of nothing': [windowed(0x30, rle('x', CLUSTER, false), raw(''))],
    'no last block': [windowed(0x30, rle('x', CLUSTER, false))],
    'a byte too many': [windowed(0x30, rle('x', CLUSTER, false), rle('x', 1))],
    'a byte too few': [windowed(0x30, rle('x', CLUSTER - 1)), GARBAGE],
    'a wrong checksum': [summed('00000000', rle('x', CLUSTER))],
    'half a checksum': [summed('0000', rle('x', CLUSTER))],
    'a damaged frame between two': [half, frame(block(2, 4, true, Buffer.alloc(4, 0xff))), half],
    'a window of 128 MiB': [windowed(17 << 3, rle('x', CLUSTER))],
  };

  async function read(): Promise<Buffer | 'EIO'> {
    const disk = await openDisk(file);
    const content = Buffer.alloc(CLUSTER);
    try {
      disk.read(content, 0, CLUSTER, 0);
      return content;
    } catch {
      return 'EIO';
    } finally {
      disk.close();
    }
  }

  function reference(): Buffer | 'EIO' {
    const raw = scratch.path('reference.raw');
    const { status } = spawnSync('qemu-img', ['convert', '-O', 'raw', file, raw]);
    return status === 0 ? fs.readFileSync(raw) : 'EIO';
  }

  /** Of whole sectors, behind everything else. */
  function store(...parts: readonly Buffer[]): void {
    const data = Buffer.concat(parts);
    const sectors = Math.ceil(data.length / 512);
    fs.truncateSync(file, end);
    patchBytes(file, end, data);
    fs.truncateSync(file, end + sectors * 512);
    patchL2(file, 0, (1n << 62n) | (BigInt(sectors - 1) << 54n) | BigInt(end));
  }

  before(prepareZstd);
  for (const [name, parts] of Object.entries(cases)) {
    it(`of ${name}`, async () => {
      store(...parts);
      expect(await read()).to.deep.equal(reference());
    });
  }

  it('except for windows that QEMU has no memory for: a whole cluster needs none', async () => {
    store(windowed(18 << 3, rle('x', CLUSTER)));
    expect(reference()).to.equal('EIO');
    expect(await read()).to.deep.equal(Buffer.alloc(CLUSTER, 'x'));
  });
});

describe('a zstd frame on a system without libzstd', () => {
  it('is decompressed to its place, and a bad one is not', async () => {
    const decompress = await portableZstd();
    const target = Buffer.alloc(8, '.');
    expect(decompress(sized(3, raw('abc')), target, 2, 4)).to.equal(3);
    expect(target.toString()).to.equal('..abc...');
    for (const bad of [
      sized(5, raw('abcde')),
      sized(3, raw('ab')),
      frame(block(3, 3, true, Buffer.from('abc'))),
    ])
      expect(decompress(bad, target, 2, 4)).to.not.equal(3);
    expect(target.toString()).to.equal('..abc...');
  });
});
