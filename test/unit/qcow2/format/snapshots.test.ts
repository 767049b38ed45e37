import { expect } from 'chai';
import { parseHeader } from '../../../../src/qcow2/format/header.js';
import { checkSnapshotTable, findSnapshot, readSnapshots } from '../../../../src/qcow2/format/snapshots.js';
import { expectError } from '../../support/errors.js';
import { headerBytes } from '../../support/headers.js';

const AT = 0x10000;

interface Entry {
  id?: string;
  name?: string;
  l1TableOffset?: bigint;
  l1Size?: number;
  vmStateSize?: number;
  extra?: Buffer;
  extraDataSize?: number;
}

/** Specification: "Snapshots". */
function encode({ id = '1', name = '', l1TableOffset = 0x30000n, l1Size = 1, ...rest }: Entry): Buffer {
  const extra = rest.extra ?? Buffer.alloc(0);
  const tail = Buffer.concat([extra, Buffer.from(id), Buffer.from(name)]);
  const bytes = Buffer.alloc(Math.ceil((40 + tail.length) / 8) * 8, 0xee);
  bytes.writeBigUInt64BE(l1TableOffset, 0);
  bytes.writeUInt32BE(l1Size, 8);
  bytes.writeUInt16BE(Buffer.byteLength(id), 12);
  bytes.writeUInt16BE(Buffer.byteLength(name), 14);
  bytes.writeUInt32BE(1_700_000_000, 16);
  bytes.writeUInt32BE(250_999_999, 20);
  bytes.writeBigUInt64BE(2n ** 63n, 24);
  bytes.writeUInt32BE(rest.vmStateSize ?? 0, 32);
  bytes.writeUInt32BE(rest.extraDataSize ?? extra.length, 36);
  tail.copy(bytes, 40);
  return bytes;
}

function extra(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => {
    bytes.writeBigUInt64BE(value, 8 * index);
  });
  return bytes;
}

function header(nbSnapshots: number) {
  return parseHeader(headerBytes({ nbSnapshots, snapshotsOffset: AT }), 'image');
}

function read(entries: readonly Entry[], count = entries.length) {
  const file = Buffer.concat([Buffer.alloc(AT), ...entries.map(encode)]);
  return readSnapshots(header(count), (at, length) => file.subarray(at, at + length), 'image');
}

describe('the snapshot table', () => {
  it('is read entry by entry', () => {
    const [first, second] = read([
      { id: '1', name: 'before', extra: extra(0n, 0x80300n) },
      { id: '22', name: 'd\u00e9j\u00e0', l1TableOffset: 0x50000n, l1Size: 3 },
    ]);
    expect(first).to.deep.equal({
      id: '1',
      name: 'before',
      l1TableOffset: 0x30000,
      l1Size: 1,
      diskSize: 0x80200,
      tellsDiskSize: true,
      vmStateSize: 0,
      date: 1_700_000_000_250,
      vmClock: 2n ** 63n,
      entryBytes: 64,
    });
    expect(second).to.include({ id: '22', name: 'd\u00e9j\u00e0', l1TableOffset: 0x50000, l1Size: 3 });
  });

  it('pads each entry to 8 bytes', () => {
    const names = ['', 'a', '1234567', '12345678', '123456789'];
    const found = read(names.map((name, index) => ({ id: String(index), name })));
    expect(found.map(({ name }) => name)).to.deep.equal(names);
  });

  it('keeps the current disk size where an entry has none', () => {
    expect(read([{}])[0]!.diskSize).to.equal(0x100000);
    expect(read([{ extra: extra(7n) }])[0]!.diskSize).to.equal(0x100000);
  });

  it('has the VM state size in the extra data, else in the entry', () => {
    expect(read([{ vmStateSize: 5 }])[0]!.vmStateSize).to.equal(5);
    expect(read([{ vmStateSize: 5, extra: extra(2n ** 40n) }])[0]!.vmStateSize).to.equal(2 ** 40);
  });

  it('may have extra data that nobody knows, of at most 1024 bytes', () => {
    const long = Buffer.concat([extra(0n, 512n), Buffer.alloc(1008, 0x55)]);
    expect(read([{ extra: long, name: 'x' }])[0]).to.include({ diskSize: 512, name: 'x' });
    const tooLong = Buffer.alloc(1025);
    expectError('format', ['entry 0', '1025 bytes of extra data'], () => read([{ extra: tooLong }]));
  });

  it('that is cut short is refused with the number of the entry', () => {
    expectError('format', ['entry 1', 'outside the file'], () => read([{}], 2));
    expectError('format', ['entry 0', 'outside the file'], () => read([{ extraDataSize: 1024 }]));
  });

  it('with numbers above 2^53 - 1 is refused', () => {
    expectError('format', ['entry 0', 'out of range'], () => read([{ l1TableOffset: 2n ** 60n }]));
    expectError('format', ['disk size', 'out of range'], () => read([{ extra: extra(0n, 2n ** 60n) }]));
  });

  it('of more than 64 MiB is refused', () => {
    const entry = encode({ id: 'i'.repeat(60000), name: 'n'.repeat(60000) });
    const padded = (at: number, length: number): Buffer => {
      const within = (at - AT) % entry.length;
      return entry.subarray(within, within + length);
    };
    expectError('format', ['67108864'], () => readSnapshots(header(65536), padded, 'image'));
  });
});

describe('a snapshot', () => {
  const [one, two, three] = read([
    { id: '1', name: '2' },
    { id: '2', name: 'b' },
    { id: '3', name: 'b' },
  ]);

  it('is found by its ID first, then by its name', () => {
    const all = [one!, two!, three!];
    expect(findSnapshot(all, '2')).to.equal(two);
    expect(findSnapshot(all, 'b')).to.equal(two);
    expect(findSnapshot(all, '1')).to.equal(one);
    expect(findSnapshot(all, 'c')).to.equal(undefined);
    expect(findSnapshot(all, '')).to.equal(undefined);
  });

  it('is refused when its L1 table is misaligned, too large or too small', () => {
    const check = (changes: object, needed = 1) =>
      checkSnapshotTable({ ...one!, ...changes }, header(1), needed, 'image');
    expect(() => check({})).not.to.throw();
    expectError('format', ['snapshot 1 (2)', '0x30200'], () => check({ l1TableOffset: 0x30200 }));
    expectError('format', ['L1 table takes'], () => check({ l1Size: 2 ** 22 + 1 }));
    expectError('format', ['1 entries', 'needs 2'], () => check({}, 2));
  });
});
