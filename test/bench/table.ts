/** Rows and their medians as a Markdown table. */

import { BEFORE, type Candidate, REFERENCE, SUBJECT } from './candidates.js';
import type { Results } from './results.js';
import type { Row } from './rows.js';

/** The rows for which there is any sample. */
export function table(rows: readonly Row[], candidates: readonly Candidate[], results: Results): string {
  const names = candidates
    .map(({ name }) => name)
    .filter((name) => rows.some(({ id }) => results.median(id, name) !== undefined));
  const reference = names.includes(BEFORE) ? BEFORE : REFERENCE;
  const head = ['', 'unit', ...names, `${SUBJECT} / ${reference}`];
  const body = rows
    .filter(({ id }) => names.some((name) => results.median(id, name) !== undefined))
    .map((row) => {
      const cells = names.map((name) => formatValue(row, results.median(row.id, name)));
      return [row.title, row.unit, ...cells, formatRatio(ratio(row, results, reference))];
    });
  return layOut(head, body);
}

/** What the subject is of the reference, if both have been measured. */
export function ratio({ id }: Row, results: Results, reference = REFERENCE): number | undefined {
  const [ours, theirs] = [results.median(id, SUBJECT), results.median(id, reference)];
  return ours === undefined || !theirs ? undefined : ours / theirs;
}

export function formatRatio(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(2);
}

/** With thousands apart. */
export function formatValue({ scale, decimals }: Row, value: number | undefined): string {
  if (value === undefined) return '-';
  const [whole = '', ...fraction] = (value * scale).toFixed(decimals).split('.');
  return [whole.replace(/\B(?=(\d{3})+$)/g, ' '), ...fraction].join('.');
}

/** The columns are padded, so that it reads well on a terminal too. */
function layOut(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) =>
    Math.max(...[head, ...body].map((row) => (row[column] ?? '').length)),
  );
  const isText = (column: number) => column < 2;
  const pad = (cell: string, column: number) => {
    const width = widths[column] ?? 0;
    return isText(column) ? cell.padEnd(width) : cell.padStart(width);
  };
  const line = (row: readonly string[]) => `| ${row.map(pad).join(' | ')} |`;
  const rule = widths.map((width, i) => (isText(i) ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), line(rule), ...body.map(line)].join('\n');
}
