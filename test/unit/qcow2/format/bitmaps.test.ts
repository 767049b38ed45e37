import { expect } from 'chai';
import { readBitmaps } from '../../../../src/qcow2/format/bitmaps.js';
import { expectError } from '../../support/errors.js';

const AT = 0x1000;

/** Specification: "Bitmap directory". */
function encode(name: string, flags = 0, granularityBits = 16, extra = 0): Buffer {
  const bytes = Buffer.alloc(Math.ceil((24 + extra + Buffer.byteLength(name)) / 8) * 8);
  bytes.writeBigUInt64BE(2n ** 63n, 0);
  bytes.writeUInt32BE(1, 8);
  bytes.writeUInt32BE(flags, 12);
  bytes[16] = 1;
  bytes[17] = granularityBits;
  bytes.writeUInt16BE(Buffer.byteLength(name), 18);
  bytes.writeUInt32BE(extra, 20);
  bytes.write(name, 24 + extra);
  return bytes;
}

function read(directory: Buffer, count: number, directorySize = directory.length) {
  const file = Buffer.concat([Buffer.alloc(AT), directory]);
  const extension = { count, reserved: 0, directoryOffset: AT, directorySize };
  return readBitmaps(extension, (at, length) => file.subarray(at, at + length), 'image');
}

describe('the bitmap directory', () => {
  it('is read entry by entry', () => {
    const directory = Buffer.concat([encode('a', 1), encode('bitmap', 2, 9, 8), encode('12345678', 3, 31)]);
    expect(read(directory, 3)).to.deep.equal([
      {
        name: 'a',
        granularity: 65536,
        inUse: true,
        auto: false,
        flags: 1,
        entryOffset: AT,
        tableOffset: 2 ** 63,
        tableSize: 1,
        type: 1,
        extraDataSize: 0,
        nameBytes: 1,
        end: 32,
      },
      {
        name: 'bitmap',
        granularity: 512,
        inUse: false,
        auto: true,
        flags: 2,
        entryOffset: AT + 32,
        tableOffset: 2 ** 63,
        tableSize: 1,
        type: 1,
        extraDataSize: 8,
        nameBytes: 6,
        end: 72,
      },
      {
        name: '12345678',
        granularity: 2 ** 31,
        inUse: true,
        auto: true,
        flags: 3,
        entryOffset: AT + 72,
        tableOffset: 2 ** 63,
        tableSize: 1,
        type: 1,
        extraDataSize: 0,
        nameBytes: 8,
        end: 104,
      },
    ]);
  });

  it('may be empty', () => {
    expect(read(Buffer.alloc(0), 0)).to.deep.equal([]);
  });

  it('that is cut short is refused with the number of the entry', () => {
    const directory = Buffer.concat([encode('a'), encode('b')]);
    expectError('format', ['entry 2', 'cut short'], () => read(directory, 3));
    expectError('format', ['entry 1', 'cut short'], () => read(directory.subarray(0, 40), 2));
    expectError('format', ['entry 0', 'cut short'], () => read(encode('name').subarray(0, 26), 1));
    expectError('format', ['cut short'], () => read(directory, 3, 4096));
  });

  it('is refused when an entry claims more extra data than there is', () => {
    const entry = encode('a');
    entry.writeUInt32BE(0xffff_ffff, 20);
    expectError('format', ['entry 0'], () => read(entry, 1));
  });

  it('has at most 65535 bitmaps and 64 MiB', () => {
    expectError('format', ['65536 bitmaps'], () => read(Buffer.alloc(0), 65536));
    expectError('format', ['too large'], () => read(Buffer.alloc(0), 1, 2 ** 26 + 1));
  });
});
