import { expect } from 'chai';
import { frameLength, inflateZstd, portableZstd, prepareZstd } from '../../../src/qcow2/zstd.js';

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

describe('the length of a zstd frame', () => {
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
      expect(frameLength(bytes)).to.equal(bytes.length);
      expect(frameLength(Buffer.concat([bytes, GARBAGE]))).to.equal(bytes.length);
    });

    it(`is undefined wherever it is cut: ${name}`, () => {
      for (let length = 0; length < bytes.length; length++) {
        expect(frameLength(bytes.subarray(0, length))).to.equal(undefined);
      }
    });
  }

  it('is undefined without the magic, and for a reserved block', () => {
    expect(frameLength(GARBAGE)).to.equal(undefined);
    expect(frameLength(frame(block(3, 1, true, Buffer.from('x'))))).to.equal(undefined);
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
