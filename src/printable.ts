/**
 * Text that an image or a user chose, fit for a terminal and for one line of a log: control characters, line separators and direction marks (Unicode
 * categories Cc, Cf, Zl, Zp) are written as escapes.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`;
  });
}

/** Characters of a name that a table or a message shows. */
const MAX_NAME = 100;

/** The beginning of a name that an image chose: one of a snapshot may have 64 KiB. Not yet `printable`. */
export function shortName(name: string): string {
  return name.length <= MAX_NAME ? name : `${name.slice(0, MAX_NAME)}...`;
}

/** As a shell takes it for one word: for commands that a message proposes. */
export function shellWord(text: string): string {
  const shown = printable(text);
  return /^[\w@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}
