/** The samples as a Markdown table of medians. */

import { cpus, release } from 'node:os';
import { FIRST_BYTE, PEAK_RSS, type Plan, type Sample } from './runner.js';

/** The two whose ratio is the point of it all. */
const SUBJECT = 'qcow2fs';
const REFERENCE = 'qsd';

interface Row {
  readonly name: string;
  readonly title: string;
  readonly unit: string;
  /** What one unit of the samples is in the unit shown. */
  readonly scale: number;
}

export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined || sorted.length % 2 === 1) return upper;
  return (upper + (sorted[middle - 1] as number)) / 2;
}

/** The whole report: one table, and how it came about. */
export function report(plan: Plan, samples: readonly Sample[]): string {
  const names = plan.candidates.map((candidate) => candidate.name);
  const ratio = names.includes(SUBJECT) && names.includes(REFERENCE);
  const head = ['row', 'unit', ...names, ...(ratio ? [`${SUBJECT}/${REFERENCE}`] : [])];
  const rows: readonly Row[] = [
    ...plan.workloads.map((workload) => ({ ...workload, scale: 1 })),
    { name: FIRST_BYTE, title: FIRST_BYTE, unit: 'ms', scale: 1 },
    { name: PEAK_RSS, title: PEAK_RSS, unit: 'MB', scale: 1e-6 },
  ];
  const body = plan.images.flatMap(({ kind }) =>
    rows.map((row) => {
      const medians = new Map(
        names.map((name) => {
          const own = samples.filter((s) => s.kind === kind && s.row === row.name && s.candidate === name);
          return [name, median(own.map((sample) => sample.value * row.scale))];
        }),
      );
      const cells = names.map((name) => format(medians.get(name)));
      return [`${kind}: ${row.title}`, row.unit, ...cells, ...(ratio ? [quotient(medians)] : [])];
    }),
  );
  return [...table(head, body), '', setting(plan)].join('\n');
}

function quotient(medians: ReadonlyMap<string, number | undefined>): string {
  const [subject, reference] = [medians.get(SUBJECT), medians.get(REFERENCE)];
  return subject === undefined || !reference ? '-' : (subject / reference).toFixed(2);
}

function format(value: number | undefined): string {
  return value === undefined ? '-' : Math.round(value).toLocaleString('en').replaceAll(',', ' ');
}

/** Markdown, with the columns padded so that it reads well on a terminal too. */
function table(head: readonly string[], body: readonly (readonly string[])[]): string[] {
  const widths = head.map((_, column) =>
    Math.max(...[head, ...body].map((row) => (row[column] ?? '').length)),
  );
  const isText = (column: number) => column < 2;
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (isText(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, i) => (isText(i) ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), line(rule), ...body.map(line)];
}

function setting(plan: Plan): string {
  const processors = cpus();
  return (
    `Medians of ${plan.rounds} alternating rounds, ${plan.seconds} s a row; disk of ${plan.size / 2 ** 20} MiB, fully allocated, ` +
    `image in the page cache. ${processors.length} x ${processors[0]?.model.trim()}, Linux ${release()}, Node ${process.versions.node}.`
  );
}
