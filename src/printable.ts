import { hasRawBytes } from './names.js';

/** Control characters, line separators and direction marks. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Text that an image or a user chose, fit for a terminal and for one line of a log: escapes replace unsafe characters. */
export function printable(text: string): string {
  return withRawBytes(text).replace(UNSAFE, escaped);
}

/** As JSON.stringify, with no unsafe character in a string: programs that parse the text get them all the same. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(UNSAFE, (one) => (one === '\n' ? one : escaped(one)));
}

/** One escape for each UTF-16 unit, as in JSON. */
function escaped(character: string): string {
  return character.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Characters of a name that a table or a message shows. */
const MAX_NAME = 100;

/** The beginning of a name that an image chose: one of a snapshot may have 64 KiB. Not yet `printable`. */
export function shortName(name: string): string {
  return name.length <= MAX_NAME ? name : `${name.slice(0, MAX_NAME)}...`;
}

/** Bytes of names that are not UTF-8, as `\\xe9` (names.ts). */
function withRawBytes(text: string): string {
  return text.replace(/[\u{dc80}-\u{dcff}]/gu, (byte) => `\\x${(byte.charCodeAt(0) & 0xff).toString(16)}`);
}

/** As a shell takes it for one word: for commands that a message proposes. */
export function shellWord(text: string): string {
  if (hasRawBytes(text)) return `$'${printable(text.replace(/['\\]/g, '\\$&'))}'`;
  const shown = printable(text);
  return /^[\w@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}
