/** The whole report in Markdown: the tables, and how they came about. */

import { REFERENCE, SUBJECT } from './candidates.js';
import { growthRows, SERIES } from './growth-series.js';
import type { Results } from './results.js';
import type { Plan } from './round.js';
import { costRows, type Row, throughputRows } from './rows.js';
import { table } from './table.js';

/** @param setting lines about the machine and the programs */
export function report(plan: Plan, results: Results, setting: readonly string[]): string {
  const section = (title: string, text: string, rows: readonly Row[]) => {
    const measured = rows.some(({ id }) => plan.candidates.some(({ name }) => results.median(id, name)));
    return measured ? [`## ${title}`, text, table(rows, plan.candidates, results)] : [];
  };
  return `${[
    '# Benchmarks',
    `${SUBJECT} and other programs that present a qcow2 image as one raw file, measured by \`make bench\`.\n` +
      `${REFERENCE} is the FUSE export of qemu-storage-daemon. The last column is ${SUBJECT} relative to it.`,
    '![The ratios as bars](benchmarks.svg)',
    setting.map((line) => `- ${line}`).join('\n'),
    ...section('Throughput', 'More is better.', throughputRows(plan)),
    ...section('Memory, CPU time, mounting', 'Less is better.', costRows(plan)),
    ...SERIES.flatMap((series) => section(series.title, series.note, growthRows(series))),
    '## How it is measured',
    method(plan),
  ].join('\n\n')}\n`;
}

function method({ rounds, seconds, size }: Plan): string {
  return `\
- Medians of ${rounds === 1 ? '1 round' : `${rounds} rounds`}; growth: of at most 3, 1 s a row. In a round every row goes over the programs in turn, and
  each round begins with another one.
- Disks of ${size / 2 ** 20} MiB, full of random data; that of the compressed images compresses by half. Clusters of 64 KiB. LUKS
  is aes-256-xts with plain64. The images are in the page cache of the host.
- fio, ${seconds} s a row. 4k random and 1 MiB rows use O_DIRECT; QD1 is psync, other depths are libaio. Buffered reads and
  fillings go over the disk once. Buffered random writes hit no block twice, and the time of the final fsync counts.
- Reads are from read-only mounts. Writes go to a copy for each program, fillings to an empty image for each
  measurement. What has been written is on the disk of the host before the next measurement begins. Before each
  filling as much memory as the disk needs is used once, so that a virtual machine has it from its host.
- All programs run with their defaults. Memory is VmHWM, CPU time is that of user and system, both summed over the
  processes of the program.`;
}
