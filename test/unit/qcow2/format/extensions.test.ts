import { expect } from 'chai';
import { parseExtensions } from '../../../../src/qcow2/format/extensions.js';
import { parseHeader } from '../../../../src/qcow2/format/header.js';
import { EXTENSION, encodeFeatureName } from '../../../support/damage.js';
import { expectError } from '../../support/errors.js';
import { type HeaderFields, headerBytes } from '../../support/headers.js';

const CLUSTER = 512;
const START = 112;
const SMALL: HeaderFields = { clusterBits: 9, size: 512 };

function extension(type: number, data: Buffer | string): Buffer {
  const content = Buffer.from(data);
  const bytes = Buffer.alloc(8 + Math.ceil(content.length / 8) * 8, 0);
  bytes.writeUInt32BE(type, 0);
  bytes.writeUInt32BE(content.length, 4);
  content.copy(bytes, 8);
  return bytes;
}

function parse(parts: readonly Buffer[], fields: HeaderFields = {}, length = CLUSTER) {
  const cluster = headerBytes({ ...SMALL, ...fields }, CLUSTER);
  Buffer.concat(parts).copy(cluster, START);
  return parseExtensions(parseHeader(cluster, 'image'), cluster.subarray(0, length), 'image');
}

function words(...values: (number | bigint)[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => {
    bytes.writeBigUInt64BE(BigInt(value), 8 * index);
  });
  return bytes;
}

describe('header extensions', () => {
  it('may all be absent', () => {
    expect(parse([])).to.deep.equal({
      backingFile: undefined,
      backingFormat: undefined,
      dataFile: undefined,
      encryption: undefined,
      bitmaps: undefined,
      featureNames: [],
      unknown: [],
    });
  });

  it('follow each other at multiples of 8', () => {
    for (const name of ['a', '1234567', '12345678', '123456789']) {
      const found = parse([extension(EXTENSION.dataFile, name), extension(EXTENSION.backingFormat, 'qcow2')]);
      expect(found).to.include({ dataFile: name, backingFormat: 'qcow2' });
    }
  });

  it('end at the end marker', () => {
    const parts = [extension(EXTENSION.end, ''), extension(EXTENSION.backingFormat, 'raw')];
    expect(parse(parts).backingFormat).to.equal(undefined);
  });

  it('end at an end marker with a length, unless that runs past the room', () => {
    const marker = (length: number) => [words(length), extension(EXTENSION.backingFormat, 'raw')];
    const room = CLUSTER - START - 8;
    expect(parse(marker(room)).backingFormat).to.equal(undefined);
    expectError('format', ['extension 0x0', `${room + 1} bytes`, 'past'], () => parse(marker(room + 1)));
  });

  it('are refused where only a part of one fits before the backing file name', () => {
    const parts = [extension(0x1234, ''), Buffer.from('base')];
    expectError('format', ['at 0x78', 'past'], () =>
      parse(parts, { backingFileOffset: START + 12, backingFileSize: 4 }),
    );
  });

  it('declare a backing format of up to 15 bytes, and none where it is empty', () => {
    const format = (text: string) => [extension(EXTENSION.backingFormat, text)];
    expect(parse(format('raw'.padEnd(15, '\0'))).backingFormat).to.equal('raw');
    for (const empty of ['', '\0']) expect(parse(format(empty)).backingFormat).to.equal(undefined);
    expectError('format', ['backing format', '16 bytes', '15'], () => parse(format('raw'.padEnd(16, '\0'))));
  });

  it('end at the backing file name, which is not taken for an extension', () => {
    const name = extension(EXTENSION.dataFile, 'trap.raw');
    const backingFileOffset = START + 16;
    const found = parse([extension(EXTENSION.backingFormat, 'raw'), name], {
      backingFileOffset,
      backingFileSize: name.length,
    });
    expect(found).to.include({ backingFormat: 'raw', dataFile: undefined });
  });

  it('start where header_length says', () => {
    const cluster = headerBytes({ ...SMALL, headerLength: 128 }, CLUSTER);
    extension(EXTENSION.dataFile, 'x').copy(cluster, START);
    extension(EXTENSION.backingFormat, 'raw').copy(cluster, 128);
    const found = parseExtensions(parseHeader(cluster, 'image'), cluster, 'image');
    expect(found).to.include({ backingFormat: 'raw', dataFile: undefined });
  });

  it('start at byte 72 in version 2', () => {
    const cluster = headerBytes({ ...SMALL, version: 2 }, CLUSTER);
    extension(EXTENSION.backingFormat, 'raw').copy(cluster, 72);
    expect(parseExtensions(parseHeader(cluster, 'image'), cluster, 'image').backingFormat).to.equal('raw');
  });

  it('that run past the cluster, the backing file name or the file are refused', () => {
    const room = CLUSTER - START - 8;
    expect(parse([extension(0x1234, Buffer.alloc(room))]).unknown).to.deep.equal([0x1234]);
    const tooLong = extension(0x1234, '');
    for (const length of [room + 1, 2 ** 32 - 1]) {
      tooLong.writeUInt32BE(length, 4);
      expectError('format', ['0x1234', '0x70', `${length} bytes`, 'past'], () => parse([tooLong]));
    }
    const backing = { backingFileOffset: START + 16, backingFileSize: 1 };
    expectError('format', ['past'], () => parse([extension(0x1234, Buffer.alloc(9))], backing));
    expectError('format', ['past'], () => parse([extension(0x1234, Buffer.alloc(64))], {}, START + 40));
  });

  it('of unknown types are kept by their numbers', () => {
    const parts = [extension(0xdeadbeef, 'abc'), extension(EXTENSION.backingFormat, 'raw'), extension(7, '')];
    expect(parse(parts)).to.deep.include({ unknown: [0xdeadbeef, 7], backingFormat: 'raw' });
  });

  it('tell where the LUKS header is', () => {
    const found = parse([extension(EXTENSION.encryption, words(0x50000, 2068480))]);
    expect(found.encryption).to.deep.equal({ offset: 0x50000, length: 2068480 });
    const wrong = [extension(EXTENSION.encryption, words(0x50000))];
    expectError('format', ['encryption extension has 8 bytes'], () => parse(wrong));
    const far = [extension(EXTENSION.encryption, words(2n ** 60n, 1))];
    expectError('format', ['encryption extension', 'out of range'], () => parse(far));
  });

  it('tell where the bitmaps are', () => {
    const found = parse([extension(EXTENSION.bitmaps, words(5n << 32n, 0x100, 0x70000))]);
    const bitmaps = { count: 5, reserved: 0, directorySize: 0x100, directoryOffset: 0x70000 };
    expect(found.bitmaps).to.deep.equal(bitmaps);
    expectError('format', ['bitmaps extension has 16 bytes'], () =>
      parse([extension(EXTENSION.bitmaps, words(1, 2))]),
    );
    const far = [extension(EXTENSION.bitmaps, words(0, 2n ** 62n, 0))];
    expectError('format', ['bitmaps extension', 'out of range'], () => parse(far));
  });

  it('name features, also where a name fills its field without a NUL', () => {
    const full = 'x'.repeat(46);
    const table = Buffer.concat([
      encodeFeatureName('incompatible', 0, 'dirty bit'),
      encodeFeatureName('autoclear', 63, full),
      encodeFeatureName('compatible', 1, ''),
      Buffer.alloc(20, 0x41),
    ]);
    expect(parse([extension(EXTENSION.featureNames, table)]).featureNames).to.deep.equal([
      { type: 'incompatible', bit: 0, name: 'dirty bit' },
      { type: 'autoclear', bit: 63, name: full },
    ]);
  });

  it('name no features of unknown kinds', () => {
    const entry = encodeFeatureName('compatible', 1, 'odd');
    entry[0] = 3;
    expect(parse([extension(EXTENSION.featureNames, entry)]).featureNames).to.deep.equal([]);
  });
});

describe('the backing file name', () => {
  it('is read where the header says, and ends at a NUL', () => {
    const fields = { backingFileOffset: START + 8, backingFileSize: 9 };
    expect(parse([extension(0, ''), Buffer.from('base.raw\0')], fields).backingFile).to.equal('base.raw');
    expect(parse([extension(0, ''), Buffer.from('base.qcow')], fields).backingFile).to.equal('base.qcow');
    expect(parse([extension(0, ''), Buffer.from('\0')], fields).backingFile).to.equal(undefined);
  });

  it('beyond the end of the file is refused', () => {
    const fields = { backingFileOffset: 400, backingFileSize: 9 };
    expectError('format', ['backing file name', 'truncated'], () => parse([], fields, 408));
    expect(parse([], fields, 409).backingFile).to.equal(undefined);
  });
});
