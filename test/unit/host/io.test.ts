import fs from 'node:fs';
import { expect } from 'chai';
import { isReadable, pollNext, readAt, readNext, writeAt, writeNext } from '../../../src/host/io.js';
import { socketPair } from '../../../src/host/libc.js';
import { useScratch } from '../../support/scratch.js';

/** More than go through node:fs before the C library is called directly. */
const ROUNDS = 100;

describe('reading and writing directly', () => {
  const scratch = useScratch();
  let fd: number;

  beforeEach(() => {
    fd = fs.openSync(scratch.path('file'), 'w+');
  });
  afterEach(() => fs.closeSync(fd));

  it('moves the bytes of the right part of a buffer, from the first call on', () => {
    for (let round = 0; round < ROUNDS; round++) {
      const source = Buffer.from(`..${String(round).padStart(4, '0')}..`);
      expect(writeAt(fd, source, 2, 4, 7 * round)).to.equal(4);
      const target = Buffer.alloc(8, '-');
      expect(readAt(fd, target, 1, 4, 7 * round)).to.equal(4);
      expect(target.toString()).to.equal(`-${String(round).padStart(4, '0')}---`);
    }
    expect(fs.readFileSync(scratch.path('file')).toString('latin1', 0, 18)).to.equal(
      '0000\0\0\x000001\0\0\x000002',
    );
  });

  it('reaches parts of larger memory, shared memory too', () => {
    const memories = [new ArrayBuffer(64), new SharedArrayBuffer(64)];
    for (const [index, memory] of memories.entries()) {
      const part = new Uint8Array(memory, 16, 8);
      part.fill(65 + index);
      for (let round = 0; round < ROUNDS; round++) writeAt(fd, part, 4, 4, 4 * index);
      for (let round = 0; round < ROUNDS; round++) readAt(fd, part, 0, 2, 4 * (1 - index));
    }
    expect(fs.readFileSync(scratch.path('file'), 'latin1')).to.equal('AAAABBBB');
    expect(Buffer.from(memories[1]!).toString('latin1', 14, 26)).to.equal('\0\0AABBBBBB\0\0');
  });

  it('tells the end of a file, and reads and writes beyond 4 GiB', () => {
    const far = 5 * 2 ** 30;
    for (let round = 0; round < ROUNDS; round++) {
      expect(writeAt(fd, Buffer.from('far'), 0, 3, far)).to.equal(3);
      const target = Buffer.alloc(8);
      expect(readAt(fd, target, 0, 8, far)).to.equal(3);
      expect(target.toString('latin1', 0, 4)).to.equal('far\0');
      expect(readAt(fd, target, 0, 8, 2 ** 40)).to.equal(0);
    }
  });

  it('fails as node:fs does', () => {
    const readOnly = fs.openSync(scratch.path('file'), 'r');
    for (let round = 0; round < ROUNDS; round++) {
      expect(() => readAt(-1, Buffer.alloc(8), 0, 8, 0)).to.throw(/out of range/);
      expect(() => writeAt(readOnly, Buffer.alloc(8), 0, 8, 0)).to.throw(/^EBADF/);
      expect(() => writeAt(fd, Buffer.alloc(8), 0, 8, -1)).to.throw();
    }
    fs.closeSync(readOnly);
  });

  it('refuses what does not fit the buffer', () => {
    for (const [at, length] of [
      [0, 9],
      [1, 8],
      [-1, 4],
      [9, 0],
      [0, -1],
    ] as const) {
      expect(() => readAt(fd, Buffer.alloc(8), at, length, 0), `${at} ${length}`).to.throw(RangeError);
      expect(() => writeAt(fd, Buffer.alloc(8), at, length, 0), `${at} ${length}`).to.throw(RangeError);
    }
    expect(() => writeNext(fd, Buffer.alloc(8), 9)).to.throw(RangeError);
  });

  it('takes messages as they come, and says when there is none', () => {
    const [one, other] = socketPair();
    const nonBlocking = fs.openSync('/dev/null', 'r');
    const target = Buffer.alloc(8);
    for (let round = 0; round < ROUNDS; round++) {
      expect(writeNext(one, Buffer.from('hello'), 4)).to.equal(4);
      expect(readNext(other, target)).to.equal(4);
      expect(target.toString('latin1', 0, 5)).to.equal('hell\0');
    }
    expect(pollNext(nonBlocking, target)).to.equal(0);
    for (const each of [one, other, nonBlocking]) fs.closeSync(each);
    expect(pollNext(one, target)).to.equal(-1);
    expect(() => readNext(one, target)).to.throw(/^EBADF/);
  });

  it('tells whether something waits to be read', () => {
    const [here, there] = socketPair();
    for (let round = 0; round < ROUNDS; round++) isReadable(here);
    expect(isReadable(here)).to.equal(false);
    fs.writeSync(there, 'x');
    expect(isReadable(here)).to.equal(true);
    fs.readSync(here, Buffer.alloc(8));
    expect(isReadable(here)).to.equal(false);
    fs.closeSync(there);
    fs.closeSync(here);
    expect(isReadable(here)).to.equal(false);
  });
});
