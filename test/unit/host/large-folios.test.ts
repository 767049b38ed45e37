import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import koffi from 'koffi';
import { FileStorage, openReadWrite } from '../../../src/host/file-storage.js';
import { splitFolio } from '../../../src/host/large-folios.js';
import { Random } from '../../support/random.js';
import { useScratch } from '../../support/scratch.js';

const MIB = 1024 * 1024;
const PAGE = 4096;
const FOLIO = 2 * MIB;
/** Flags of /proc/kpageflags: a page that is the head, or another part, of a large folio. */
const COMPOUND = 0b11n << 15n;

const libc = koffi.load(null);
const mmap = libc.func(
  'int64_t mmap(uint64_t address, uint64_t length, int access, int flags, int fd, int64_t at)',
);
const munmap = libc.func('int munmap(uint64_t address, uint64_t length)');
const madvise = libc.func('int madvise(uint64_t address, uint64_t length, int advice)');
const POPULATE_READ = 22;

function word(file: string, index: bigint): bigint {
  const fd = fs.openSync(file, 'r');
  const bytes = Buffer.alloc(8);
  fs.readSync(fd, bytes, 0, 8, index * 8n);
  fs.closeSync(fd);
  return bytes.readBigUInt64LE();
}

/** Whether the page cache keeps the byte in a large folio; false also where only root is told. */
function isInLargeFolio(fd: number, position: number): boolean {
  if (process.getuid!() !== 0) return false;
  const page = mmap(0, PAGE, 1, 1, fd, position);
  madvise(page, PAGE, POPULATE_READ);
  const frame = word('/proc/self/pagemap', BigInt(page) / BigInt(PAGE)) & ((1n << 55n) - 1n);
  const flags = word('/proc/kpageflags', frame);
  munmap(page, PAGE);
  return (flags & COMPOUND) !== 0n;
}

describe('a file in large folios', () => {
  const scratch = useScratch();
  const dir = scratch.subdir();
  let fd = -1;
  let file = '';
  let content: Buffer;

  beforeEach(() => {
    file = path.join(dir, 'file');
    content = Buffer.from(
      new Random(1)
        .bytes(PAGE)
        .toString('latin1')
        .repeat((4 * FOLIO) / PAGE),
      'latin1',
    );
    fs.writeFileSync(file, content);
    fd = fs.openSync(file, 'r+');
    fs.fsyncSync(fd);
  });

  afterEach(() => {
    fs.closeSync(fd);
    fs.rmSync(file);
  });

  it('is split where it is written, and stays as it is', () => {
    const wasLarge = isInLargeFolio(fd, FOLIO + PAGE);
    splitFolio(fd, FOLIO + PAGE + 17);
    expect(isInLargeFolio(fd, FOLIO + PAGE)).to.equal(false);
    // Where the host makes none, nothing shows that there was something to split.
    expect(isInLargeFolio(fd, 2 * FOLIO + PAGE)).to.equal(wasLarge);
    expect(fs.readFileSync(file).equals(content)).to.equal(true);
  });

  it('loses nothing when parts of it are dirty, beyond the end, or gone', () => {
    fs.writeSync(fd, 'dirty', FOLIO);
    content.write('dirty', FOLIO);
    splitFolio(fd, FOLIO);
    splitFolio(fd, 100 * FOLIO);
    expect(fs.readFileSync(file).equals(content)).to.equal(true);
    fs.ftruncateSync(fd, 100);
    splitFolio(fd, FOLIO);
    splitFolio(fd, 0);
    expect(fs.readFileSync(file).equals(content.subarray(0, 100))).to.equal(true);
  });

  it('holds what many small writes left there', () => {
    const storage = new FileStorage(openReadWrite(file));
    const random = new Random(2);
    for (let round = 0; round < 20_000; round++) {
      const length = 1 + random.below(PAGE);
      const position = random.below(content.length - length);
      const from = random.below(content.length - length);
      storage.write(content, from, length, position);
      content.copy(content, position, from, from + length);
      if (round % 5000 === 0) storage.sync();
    }
    storage.close();
    expect(fs.readFileSync(file).equals(content)).to.equal(true);
  });
});
