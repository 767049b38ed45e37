/**
 * Names of files are bytes, and strings of JavaScript are not: what Node.js decodes has U+FFFD in the place of every byte
 * that is not UTF-8, and leads to another file. So such a byte, 0x80 to 0xff, is kept as a lone surrogate, U+DC80 to
 * U+DCFF, which UTF-8 has none of (Python's PEP 383, "surrogateescape"). Names stay strings everywhere, survive JSON and
 * structuredClone, and become the same bytes again where the system gets them: in `fs.ts`, in calls of the C library, in
 * arguments of programs, in images.
 */
import { isUtf8 } from 'node:buffer';

/** With the flag `u`, a surrogate that is half of a pair is none. */
const ESCAPED_BYTE = /[\u{dc80}-\u{dcff}]/u;
const FIRST_ESCAPE = 0xdc00;
const REPLACEMENT = '\u{fffd}';

/** Whether a name holds bytes that are not UTF-8. */
export function hasRawBytes(name: string): boolean {
  return ESCAPED_BYTE.test(name);
}

/** Whether Node.js has decoded bytes that are not UTF-8, or that very character. */
export function mayHaveLostBytes(text: string): boolean {
  return text.includes(REPLACEMENT);
}

export function encodeName(name: string): Buffer {
  if (!hasRawBytes(name)) return Buffer.from(name);
  const parts = name.split(/([\u{dc80}-\u{dcff}])/u);
  return Buffer.concat(
    parts.map((part, index) =>
      index % 2 === 1 ? Buffer.of(part.charCodeAt(0) - FIRST_ESCAPE) : Buffer.from(part),
    ),
  );
}

export function decodeName(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  if (!mayHaveLostBytes(text) || isUtf8(bytes)) return text;
  let name = '';
  for (let at = 0; at < bytes.length; ) {
    const length = lengthOfCharacter(bytes, at);
    name +=
      length === 0 ? String.fromCharCode(FIRST_ESCAPE + bytes[at]!) : bytes.toString('utf8', at, at + length);
    at += Math.max(1, length);
  }
  return name;
}

/** @returns bytes of the character at a place; 0 where there is none */
function lengthOfCharacter(bytes: Buffer, at: number): number {
  const first = bytes[at]!;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}
