/** The rows of the report, and the ids under which the samples for them are kept. */

import type { Kind } from './kinds.js';
import type { Plan } from './round.js';
import type { Workload } from './workloads.js';

export interface Row {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** What one unit of the samples is in the unit shown. */
  readonly scale: number;
  readonly decimals: number;
}

export const FIRST_BYTE = 'mount to first byte';
export const PEAK_READING = 'peak memory, reading';
export const PEAK_WRITING = 'peak memory, writing';

export const MILLISECONDS = { unit: 'ms', scale: 1, decimals: 0 };
export const MEGABYTES = { unit: 'MB', scale: 1e-6, decimals: 0 };

/** @param name of a workload, or one of the names above */
export function rowId(kind: Kind, name: string): string {
  return `${kind.name}/${name}`;
}

export function cpuRow(kind: Kind, workload: Workload): string {
  return rowId(kind, `${workload.name}, CPU`);
}

/** What is the better the more it is. */
export function throughputRows({ kinds, workloads }: Plan): Row[] {
  return kinds.flatMap((kind) =>
    workloads
      .filter((workload) => workload.kinds.includes(kind.name))
      .map((workload) => ({
        id: rowId(kind, workload.name),
        title: `${kind.title}: ${workload.title}`,
        unit: workload.unit,
        scale: 1,
        decimals: 0,
      })),
  );
}

/** What is the better the less it is. */
export function costRows({ kinds, workloads }: Plan): Row[] {
  return kinds.flatMap((kind) => {
    const row = (name: string) => ({ id: rowId(kind, name), title: `${kind.title}: ${name}` });
    return [
      { ...row(FIRST_BYTE), ...MILLISECONDS },
      { ...row(PEAK_READING), ...MEGABYTES },
      { ...row(PEAK_WRITING), ...MEGABYTES },
      ...workloads
        .filter((workload) => workload.cpu !== undefined && workload.kinds.includes(kind.name))
        .map((workload) => ({
          id: cpuRow(kind, workload),
          title: `${kind.title}: ${workload.cpu}`,
          unit: 's/GiB',
          scale: 1,
          decimals: 2,
        })),
    ];
  });
}
