/** Lines of digests as coreutils, BSD and md5deep write them. */
import type { Algorithm } from './algorithms.js';

/** A piece of the disk: bytes from `offset` on. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
}

/** `HEX  NAME`, or `SHA256 (NAME) = HEX`; a piece follows the name as md5deep -p has it, with its last byte. */
export function sumLine(
  { tag }: Algorithm,
  digest: string,
  name: string,
  tagged: boolean,
  piece?: Piece,
): string {
  const what = piece === undefined ? name : pieceName(name, piece);
  return tagged ? `${tag} (${what}) = ${digest}` : `${digest}  ${what}`;
}

export function pieceName(name: string, { offset, length }: Piece): string {
  return `${name} offset ${offset}-${offset + length - 1}`;
}

/** True for a name that a line can hold as it is. */
export function isPlainName(name: string): boolean {
  return name !== '' && !/[\\\p{Cc}]/u.test(name);
}

export interface SumLine {
  /** Undefined where only the length of the digest tells. */
  readonly tag: string | undefined;
  readonly digest: string;
  readonly name: string;
  readonly piece: Piece | undefined;
}

/** As md5sum --tag and openssl dgst write them. */
const TAGGED = /^(\\?)([A-Za-z0-9][\w/-]*) ?\((.*)\) ?= ([0-9a-fA-F]+)$/;
const PLAIN = /^(\\?)([0-9a-fA-F]+) [ *](.+)$/;
const PIECE = /^(.+) offset (\d+)-(\d+)$/;

/** @returns undefined for a line that is none of these */
export function parseSumLine(line: string): SumLine | undefined {
  const tagged = TAGGED.exec(line);
  const [, escaped, tag, written, digest] = tagged ?? reordered(PLAIN.exec(line));
  if (digest === undefined || written === undefined) return undefined;
  const named = escaped === '' ? written : written.replace(/\\([\\nr])/g, (_, letter) => ESCAPED[letter]!);
  const parts = PIECE.exec(named);
  if (parts === null) return { tag, digest: digest.toLowerCase(), name: named, piece: undefined };
  const [, name, first, last] = parts;
  const offset = Number(first);
  const length = Number(last) - offset + 1;
  if (length < 1 || !Number.isSafeInteger(offset + length)) return undefined;
  return { tag, digest: digest.toLowerCase(), name: name!, piece: { offset, length } };
}

const ESCAPED: Readonly<Record<string, string>> = { '\\': '\\', n: '\n', r: '\r' };

/** A plain line with its parts where a tagged one has them. */
function reordered(parts: RegExpExecArray | null): (string | undefined)[] {
  return parts === null ? [] : [parts[0], parts[1], undefined, parts[3], parts[2]];
}
