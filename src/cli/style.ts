/** Colours: on a terminal that has them, unless NO_COLOR says otherwise (https://no-color.org). */

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36 } as const;
export type Colour = keyof typeof CODES;

export type Paint = (colour: Colour, text: string) => string;

export const plain: Paint = (_colour, text) => text;

/** @param stream that the text goes to */
export function painter(stream: NodeJS.WriteStream): Paint {
  const { NO_COLOR, TERM } = process.env;
  if (!stream.isTTY || (NO_COLOR !== undefined && NO_COLOR !== '') || TERM === 'dumb') return plain;
  return (colour, text) => (text === '' ? text : `\x1b[${CODES[colour]}m${text}\x1b[0m`);
}

/** Columns of the terminal that standard output is; 80 elsewhere. */
export function outputColumns(): number {
  return process.stdout.isTTY ? process.stdout.columns || 80 : 80;
}

/** The locale has more than ASCII: as setlocale(3) chooses it. */
export function speaksUnicode(): boolean {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
}
