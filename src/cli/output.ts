/** What the commands print: results on standard output, everything else on standard error. */

import { displayWidth, padColumns } from '../display-width.js';
import { printable, printableJson } from '../printable.js';

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Characters of JSON that are written at once. */
const PART_CHARACTERS = 64 * 1024;

/**
 * A result for programs, a part at a time: the lists of a hostile image make more text than a string can hold.
 * @param schema what describes it: contrib/schema/SCHEMA-VERSION.json
 */
export async function printJson(schema: JsonSchema, value: object): Promise<void> {
  let text = '';
  for (const part of jsonParts(schema, value)) {
    text += part;
    if (text.length < PART_CHARACTERS) continue;
    await printPart(text);
    text = '';
  }
  await printPart(`${text}\n`);
}

/** What `printJson` prints, for a result that is too long to hold: the text gets its list before the last brace. */
export function jsonText(schema: JsonSchema, value: object): string {
  return [...jsonParts(schema, value)].join('');
}

/** As `JSON.stringify` with two blanks of indentation; each element of a list at the top is a part of its own. */
function* jsonParts(schema: JsonSchema, value: object): Generator<string> {
  yield `{\n  "schema": "qcow2fs/${schema}/${JSON_VERSIONS[schema]}"`;
  for (const [key, field] of Object.entries(value)) {
    if (field === undefined) continue;
    yield `,\n  ${printableJson(key)}: `;
    if (Array.isArray(field) && field.length > 0) {
      for (const [index, element] of field.entries())
        yield `${index === 0 ? '[' : ','}\n    ${indented(element, 4)}`;
      yield '\n  ]';
    } else yield indented(field, 2);
  }
  yield '\n}';
}

function indented(value: unknown, blanks: number): string {
  return printableJson(value, 2).replaceAll('\n', `\n${' '.repeat(blanks)}`);
}

/** A part of a long result; resolves when there is room for more, and `text` may change. */
export function printPart(text: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    // Whoever listens for errors of standard output ends the program.
    process.stdout.write(text, () => resolve());
  });
}

/** Raised when a field goes or changes its meaning; new fields may come at any time. */
const JSON_VERSIONS = { info: 1, list: 1, check: 1, map: 1, hash: 1 } as const;
export type JsonSchema = keyof typeof JSON_VERSIONS;

/** One line, whatever the message holds. */
export function warn(message: string): void {
  process.stderr.write(`qcow2fs: ${printable(message)}\n`);
}

/** A wider cell only moves the rest of its own line. */
const MAX_COLUMN_WIDTH = 100;

/** Columns as wide as their widest cell, two blanks apart. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.min(MAX_COLUMN_WIDTH, Math.max(widths[column] ?? 0, displayWidth(cell)));
    });
  }
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : padColumns(cell, widths[column]!)))
      .join('  ');
  return rows.map(line).join('\n');
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `64 KiB`, `1.5 GiB`: exact up to a KiB, else with up to three digits. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  const rounded = Number(value.toFixed(digits));
  return `${rounded} ${UNITS[unit]}`;
}
