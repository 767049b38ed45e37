/** What a disk should be: the digests that a file of lines gives for it. */
import { Qcow2fsError } from '../errors.js';
import { printable } from '../printable.js';
import { ALGORITHMS, type Algorithm } from './algorithms.js';
import { parseSumLine, type SumLine } from './sums.js';

const MAX_LINE_BYTES = 16 * 1024;
const NEWLINE = 0x0a;

export interface ExpectedSums {
  readonly algorithms: readonly Algorithm[];
  /** What the lines cover, for pieces; undefined for a digest of the whole disk. */
  readonly pieces:
    | { readonly pieceBytes: number; readonly covered: number; readonly count: number }
    | undefined;
  /** @returns hexadecimal; undefined where the file has none. The whole disk is piece 0. */
  digestOf(algorithm: Algorithm, piece: number): string | undefined;
}

/**
 * @param file for messages
 * @param name of the disk, where there are lines for several
 * @param wanted the algorithms that count; undefined for all in the file
 * @throws Qcow2fsError `usage` that tells the line
 */
export function parseSums(
  content: Buffer,
  file: string,
  name: string,
  wanted: readonly Algorithm[] | undefined,
): ExpectedSums {
  const chosen = chooseName(content, file, name);
  const sums = new Collection(file);
  for (const { line, number } of lines(content, file)) {
    if (line.name !== chosen) continue;
    const algorithm = algorithmOf(line, wanted);
    if (algorithm === 'unknown') throw bad(file, number, 'a digest that this program does not make');
    if (algorithm !== undefined) sums.add(algorithm, line, number);
  }
  return sums.finish(wanted);
}

/** The name of the file's only lines, whatever it is; else the one that is wanted. */
function chooseName(content: Buffer, file: string, wanted: string): string {
  let first: string | undefined;
  let isAlone = true;
  for (const { line } of lines(content, file)) {
    if (line.name === wanted) return wanted;
    if (first !== undefined && first !== line.name) isAlone = false;
    first ??= line.name;
  }
  if (first === undefined) throw new Qcow2fsError('usage', `${file}: has no line with a digest`);
  if (isAlone) return first;
  const what = `has lines for several files, and none is called ${printable(wanted)}`;
  throw new Qcow2fsError('usage', `${file}: ${what}; say which one: --name NAME`);
}

/** @returns undefined for an algorithm that is not wanted */
function algorithmOf(
  { tag, digest }: SumLine,
  wanted: readonly Algorithm[] | undefined,
): Algorithm | 'unknown' | undefined {
  const fits = ({ bytes, tag: own, name }: Algorithm): boolean =>
    2 * bytes === digest.length && (tag === undefined || isTag(tag, own, name));
  const known = ALGORITHMS.filter(fits);
  if (known.length === 0) return 'unknown';
  return wanted === undefined ? known[0] : known.find((algorithm) => wanted.includes(algorithm));
}

/** openssl writes SHA2-256 and BLAKE2B-512. */
function isTag(tag: string, own: string, name: string): boolean {
  const plain = tag
    .toLowerCase()
    .replace(/^sha2-/, 'sha')
    .replace('-', '');
  return plain === own.toLowerCase() || plain === name;
}

/** All but empty lines and comments. */
function* lines(content: Buffer, file: string): Generator<{ line: SumLine; number: number }> {
  for (let at = 0, number = 1; at < content.length; number++) {
    const newline = content.indexOf(NEWLINE, at);
    const end = newline === -1 ? content.length : newline;
    if (end - at > MAX_LINE_BYTES) throw bad(file, number, 'too long for a digest and a name');
    const text = content.toString('utf8', at, end).replace(/\r$/, '');
    at = end + 1;
    if (text === '' || text.startsWith('#')) continue;
    const line = parseSumLine(text);
    if (line === undefined) throw bad(file, number, 'not a digest and a name, as sha256sum writes them');
    yield { line, number };
  }
}

function bad(file: string, line: number, what: string): Qcow2fsError {
  return new Qcow2fsError('usage', `${file}: line ${line}: ${what}`);
}

/** Of one algorithm. */
interface Column {
  digests: Buffer;
  count: number;
  /** Where the next piece begins. */
  covered: number;
}

class Collection {
  readonly #file: string;
  readonly #columns = new Map<Algorithm, Column>();
  /** Of the first piece, and so of all but the last; 0 for lines of the whole disk. */
  #pieceBytes: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  add(algorithm: Algorithm, { digest, piece }: SumLine, number: number): void {
    const column = this.#columnOf(algorithm);
    this.#pieceBytes ??= piece?.length ?? 0;
    if ((piece === undefined) !== (this.#pieceBytes === 0)) {
      throw bad(this.#file, number, 'there are lines of the whole disk and lines of pieces; keep one kind');
    }
    if (piece === undefined) {
      if (column.count > 0) throw bad(this.#file, number, `a second ${algorithm.name} of the disk`);
    } else {
      const isEnded = column.covered !== column.count * this.#pieceBytes;
      if (isEnded || piece.offset !== column.covered || piece.length > this.#pieceBytes) {
        const what = 'pieces must follow each other from offset 0, of one size all but the last';
        throw bad(this.#file, number, what);
      }
      column.covered += piece.length;
    }
    append(column, Buffer.from(digest, 'hex'));
  }

  finish(wanted: readonly Algorithm[] | undefined): ExpectedSums {
    const columns = this.#columns;
    const [first] = columns.values();
    if (first === undefined) {
      const which = (wanted ?? []).map(({ name }) => name).join(', ');
      throw new Qcow2fsError('usage', `${this.#file}: has no ${which} of the disk`);
    }
    if ([...columns.values()].some(({ covered }) => covered !== first.covered)) {
      throw new Qcow2fsError('usage', `${this.#file}: has not the same pieces for each algorithm`);
    }
    const pieceBytes = this.#pieceBytes!;
    const { covered, count } = first;
    return {
      algorithms: [...columns.keys()],
      pieces: pieceBytes === 0 ? undefined : { pieceBytes, covered, count },
      digestOf(algorithm, piece) {
        const column = columns.get(algorithm);
        if (column === undefined || piece >= column.count) return undefined;
        return column.digests.toString('hex', piece * algorithm.bytes, (piece + 1) * algorithm.bytes);
      },
    };
  }

  #columnOf(algorithm: Algorithm): Column {
    let column = this.#columns.get(algorithm);
    if (column === undefined) {
      column = { digests: Buffer.alloc(algorithm.bytes), count: 0, covered: 0 };
      this.#columns.set(algorithm, column);
    }
    return column;
  }
}

function append(column: Column, digest: Buffer): void {
  const at = column.count * digest.length;
  if (at + digest.length > column.digests.length) {
    const larger = Buffer.alloc(2 * column.digests.length);
    column.digests.copy(larger);
    column.digests = larger;
  }
  digest.copy(column.digests, at);
  column.count++;
}
