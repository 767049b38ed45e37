/** Lines of digests: what other programs write is understood, and what makes no sense is told with its line. */

import { expect } from 'chai';
import { ALGORITHMS, algorithmNamed, shareOut } from '../../../src/hash/algorithms.js';
import { type ExpectedSums, parseSums } from '../../../src/hash/expected-sums.js';
import { expectError } from '../support/errors.js';

const MD5 = 'd41d8cd98f00b204e9800998ecf8427e';
const SHA1 = 'da39a3ee5e6b4b0d3255bfef95601890afd80709';
const SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const LONG = SHA256 + SHA256;

function parse(text: string, name = 'disk.raw', only?: string): ExpectedSums {
  const wanted = only === undefined ? undefined : [algorithmNamed(only)!];
  return parseSums(Buffer.from(text), 'FILE', name, wanted);
}

/** The algorithms of the file and their digests. */
function whole(sums: ExpectedSums): [string, string | undefined][] {
  return sums.algorithms.map((algorithm) => [algorithm.name, sums.digestOf(algorithm, 0)]);
}

describe('a file of digests', () => {
  for (const [what, text] of [
    ['as sha256sum writes it', `${SHA256}  disk.raw\n`],
    ['in binary mode', `${SHA256} *disk.raw\n`],
    ['in capitals, without a last newline', `${SHA256.toUpperCase()}  disk.raw`],
    ['with the line ends of Windows', `${SHA256}  disk.raw\r\n`],
    ['as sha256sum --tag writes it', `SHA256 (disk.raw) = ${SHA256}\n`],
    ['as openssl dgst writes it', `SHA2-256(disk.raw)= ${SHA256}\n`],
    ['with comments and empty lines', `# of yesterday\n\n${SHA256}  disk.raw\n`],
    ['of a file with any other name', `${SHA256}  /mnt/old (1).img\n`],
    ['of a name that coreutils escape', `\\${SHA256}  a\\\\b\\nc\n`],
  ] as const) {
    it(`${what} is understood`, () => {
      expect(whole(parse(text))).to.deep.equal([['sha256', SHA256]]);
    });
  }

  it('may hold several algorithms, told by their tags or lengths', () => {
    expect(whole(parse(`MD5 (disk.raw) = ${MD5}\n${SHA1}  disk.raw\n`))).to.deep.equal([
      ['md5', MD5],
      ['sha1', SHA1],
    ]);
  });

  it('means SHA-512 by a digest of its length, unless BLAKE2b is asked for', () => {
    expect(whole(parse(`${LONG}  disk.raw\n`))).to.deep.equal([['sha512', LONG]]);
    expect(whole(parse(`${LONG}  disk.raw\n`, 'disk.raw', 'blake2b512'))).to.deep.equal([
      ['blake2b512', LONG],
    ]);
    expect(whole(parse(`BLAKE2b (disk.raw) = ${LONG}\n`))).to.deep.equal([['blake2b512', LONG]]);
  });

  it('counts for the algorithm that is asked for alone', () => {
    expect(whole(parse(`${MD5}  disk.raw\n${SHA1}  disk.raw\n`, 'disk.raw', 'sha1'))).to.deep.equal([
      ['sha1', SHA1],
    ]);
  });

  it('counts for the name that is asked for, where there are several', () => {
    const text = `${MD5}  other.raw\n${SHA256}  disk.raw\n`;
    expect(whole(parse(text))).to.deep.equal([['sha256', SHA256]]);
    expect(whole(parse(text, 'other.raw'))).to.deep.equal([['md5', MD5]]);
    expectError('usage', ['several', 'third.raw', '--name'], () => parse(text, 'third.raw'));
  });

  it('of pieces tells their size and what they cover', () => {
    const sums = parse(`${MD5}  d offset 0-1023\n${MD5}  d offset 1024-2047\n${MD5}  d offset 2048-2559\n`);
    expect(sums.pieces).to.deep.equal({ pieceBytes: 1024, covered: 2560, count: 3 });
    const md5 = algorithmNamed('md5')!;
    expect([0, 1, 2, 3].map((piece) => sums.digestOf(md5, piece))).to.deep.equal([MD5, MD5, MD5, undefined]);
  });

  for (const [what, text, words] of [
    ['nothing', '', ['FILE', 'no line']],
    ['nothing but comments', '# hello\n', ['no line']],
    ['prose', `${MD5}  disk.raw\nhello world\n`, ['line 2', 'sha256sum']],
    ['a digest of an odd length', 'abcdef  disk.raw\n', ['line 1', 'does not make']],
    ['a digest that its tag cannot have', `SHA1 (disk.raw) = ${MD5}\n`, ['line 1']],
    ['an unknown tag', `CRC (disk.raw) = ${MD5}\n`, ['line 1']],
    ['two digests of the disk', `${MD5}  disk.raw\n${MD5}  disk.raw\n`, ['line 2', 'second']],
    ['a piece that is missing', `${MD5}  d offset 0-511\n${MD5}  d offset 1024-1535\n`, ['line 2', 'follow']],
    ['a first piece that is not the first', `${MD5}  d offset 512-1023\n`, ['line 1', 'follow']],
    ['pieces that grow', `${MD5}  d offset 0-511\n${MD5}  d offset 512-2047\n`, ['line 2', 'one size']],
    [
      'a piece behind a shorter one',
      `${MD5}  d offset 0-1023\n${MD5}  d offset 1024-1100\n${MD5}  d offset 1101-1200\n`,
      ['line 3', 'one size'],
    ],
    ['a piece that ends before it begins', `${MD5}  d offset 9-3\n`, ['line 1']],
    ['a piece beyond all numbers', `${MD5}  d offset 0-99999999999999999999\n`, ['line 1']],
    ['pieces and the disk', `${MD5}  d offset 0-511\n${MD5}  d\n`, ['line 2', 'one kind']],
    ['other pieces for another algorithm', `${MD5}  d offset 0-511\n${SHA1}  d offset 0-1023\n`, ['line 2']],
    ['a line without an end', 'x'.repeat(20_000), ['line 1', 'too long']],
  ] as const) {
    it(`with ${what} is refused`, () => {
      expectError('usage', words, () => parse(text));
    });
  }

  it('with fewer pieces for one algorithm is refused', () => {
    const text = `${MD5}  d offset 0-511\n${SHA1}  d offset 0-511\n${MD5}  d offset 512-1023\n`;
    expectError('usage', ['same pieces'], () => parse(text));
  });

  it('without the algorithm that is asked for is refused', () => {
    expectError('usage', ['sha512'], () => parse(`${MD5}  disk.raw\n`, 'disk.raw', 'sha512'));
  });
});

describe('algorithms', () => {
  it('are shared out between threads so that none has much more to do', () => {
    const [first, second, third] = shareOut(
      ['sha256', 'sha512', 'md5', 'sha1'].map((name) => algorithmNamed(name)!),
      2,
    );
    expect([first, second]).to.deep.equal([
      ['md5', 'sha1'],
      ['sha512', 'sha256'],
    ]);
    expect(third).to.equal(undefined);
  });

  it('all have a thread, and threads beyond them none', () => {
    const shares = shareOut(ALGORITHMS, 9);
    expect(shares.flat()).to.have.members(ALGORITHMS.map(({ name }) => name));
    expect(shares.filter((names) => names.length === 0)).to.have.length(2);
  });
});
