/** What the commands print: results on standard output, everything else on standard error. */

import { displayWidth, padColumns } from '../display-width.js';

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/**
 * A result for programs.
 * @param schema what describes it: contrib/schema/SCHEMA-VERSION.json
 */
export function printJson(schema: JsonSchema, value: object): void {
  print(jsonText(schema, value));
}

/** What `printJson` prints, for a result that is too long to hold: the text gets its list before the last brace. */
export function jsonText(schema: JsonSchema, value: object): string {
  return JSON.stringify({ schema: `qcow2fs/${schema}/${JSON_VERSIONS[schema]}`, ...value }, null, 2);
}

/** A part of a long result; resolves when there is room for more, and `text` may change. */
export function printPart(text: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    // Whoever listens for errors of standard output ends the program.
    process.stdout.write(text, () => resolve());
  });
}

/** Raised when a field goes or changes its meaning; new fields may come at any time. */
const JSON_VERSIONS = { info: 1, list: 1, check: 1, map: 1, hash: 1 } as const;
export type JsonSchema = keyof typeof JSON_VERSIONS;

export function warn(message: string): void {
  process.stderr.write(`qcow2fs: ${message}\n`);
}

/** Columns as wide as their widest cell, two blanks apart. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell));
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
