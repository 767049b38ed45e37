/** The report of a soak: a table of thirds and a curve for each daemon, in Markdown. */
import { judge, type Sample } from './samples.js';

export interface Series {
  readonly name: string;
  readonly samples: readonly Sample[];
}

/** Rows of a curve. */
const POINTS = 16;
const MiB = 1024;
const inMiB = (kib: number): string => (kib / MiB).toFixed(1);

/** @param facts lines on what was done */
export function report(facts: readonly string[], all: readonly Series[]): { text: string; passed: boolean } {
  const verdicts = all.map(({ name, samples }) => ({ name, ...judge(samples) }));
  const passed = verdicts.every(({ complaints }) => complaints.length === 0);
  const rows = verdicts.map(({ name, rss, descriptors, threads, complaints }) =>
    row([
      name,
      ...rss.map(inMiB),
      descriptors.join(', '),
      threads.join(', '),
      complaints.join(', ') || 'steady',
    ]),
  );
  const lines = [
    '# Soak',
    '',
    ...facts.map((fact) => `- ${fact}`),
    '',
    'Mean memory (VmRSS, MiB) of each third of the time, and the most descriptors and threads in each.',
    '',
    row(['daemon', 'first', 'second', 'last', 'descriptors', 'threads', 'verdict']),
    row(['---', '---:', '---:', '---:', '---', '---', '---']),
    ...rows,
    '',
    'Memory (MiB) over time:',
    '',
    ...curve(all),
    '',
    `**${passed ? 'Steady' : 'Not steady'}.**`,
  ];
  return { text: `${lines.join('\n')}\n`, passed };
}

function curve(all: readonly Series[]): string[] {
  const count = Math.min(...all.map(({ samples }) => samples.length));
  const points = Array.from({ length: Math.min(POINTS, count) }, (_, i, of = Math.min(POINTS, count)) =>
    Math.round((i * (count - 1)) / Math.max(1, of - 1)),
  );
  return [
    row(['seconds', ...all.map(({ name }) => name)]),
    row(['---:', ...all.map(() => '---:')]),
    ...points.map((at) =>
      row([
        String(Math.round(all[0]!.samples[at]!.seconds)),
        ...all.map(({ samples }) => inMiB(samples[at]!.rss)),
      ]),
    ),
  ];
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}
