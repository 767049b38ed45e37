/** What the measurements have given so far. */

import { isInterrupted } from './process.js';

/** One number out of one round. */
interface Sample {
  readonly row: string;
  readonly candidate: string;
  readonly value: number;
}

export class Results {
  readonly #samples: Sample[] = [];
  /** One line for each thing that failed, and so is not in the samples. */
  readonly failures = new Set<string>();

  /** @param row the id of the row in the report */
  note(row: string, candidate: string, value: number): void {
    this.#samples.push({ row, candidate, value });
  }

  /** The median of a row's samples, or undefined if there are none. */
  median(row: string, candidate: string): number | undefined {
    const own = this.#samples.filter((sample) => sample.row === row && sample.candidate === candidate);
    return median(own.map((sample) => sample.value));
  }

  /** A failing candidate leaves a gap in the table; the others go on. */
  async attempt(what: string, action: () => Promise<void>): Promise<void> {
    if (isInterrupted()) throw new Error('interrupted');
    try {
      await action();
    } catch (error) {
      if (isInterrupted()) throw error;
      this.failures.add(`${what}: ${(error as Error).message}`);
    }
  }
}

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined || sorted.length % 2 === 1) return upper;
  return (upper + (sorted[middle - 1] as number)) / 2;
}
