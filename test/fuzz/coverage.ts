/**
 * Which blocks of the code under test have run, as V8 tells: an input that runs a new one is worth keeping.
 *
 * V8 tells of a function only what ran since it was last asked, as nested ranges whose borders depend on what ran. So
 * what counts is kept for each character of a function, and blocks are counted by the places where ranges begin.
 */
import { Session } from 'node:inspector';

/** Other files are the tests', or Node's own. */
const UNDER_TEST = '/dist/src/';

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}
interface FunctionCoverage {
  readonly ranges: readonly Range[];
}
interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly FunctionCoverage[];
}

interface FunctionState {
  readonly start: number;
  /** 1 for each character that has run. */
  readonly ran: Uint8Array;
  /** Where blocks begin, relative to the start. */
  readonly blocks: Set<number>;
  /** Ranges that were seen before, and bring nothing new. */
  readonly seen: Set<string>;
}

/** As it travels to the next process: what ran, and where blocks begin. */
export type CoverageRecord = readonly (readonly [
  name: string,
  start: number,
  ran: string,
  blocks: number[],
])[];

export class Coverage {
  readonly #session = new Session();
  readonly #functions = new Map<string, FunctionState>();

  constructor(known: CoverageRecord = []) {
    for (const [name, start, ran, blocks] of known) {
      this.#functions.set(name, {
        start,
        ran: new Uint8Array(Buffer.from(ran, 'base64')),
        blocks: new Set(blocks),
        seen: new Set(),
      });
    }
    this.#session.connect();
    this.#session.post('Profiler.enable');
    // Before the code under test is loaded.
    this.#session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
  }

  /** @returns true when something ran for the first time since the last call */
  advance(): boolean {
    let scripts: readonly ScriptCoverage[] = [];
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error) throw error;
      scripts = taken.result;
    });
    let isNew = false;
    for (const { url, functions } of scripts) {
      const place = url.indexOf(UNDER_TEST);
      if (place === -1) continue;
      const name = url.slice(place + UNDER_TEST.length);
      for (const { ranges } of functions) {
        if (this.#note(name, ranges)) isNew = true;
      }
    }
    return isNew;
  }

  /** Blocks that ran, of all that are known: a function that never ran counts as one. */
  counts(): { readonly covered: number; readonly known: number } {
    let covered = 0;
    let known = 0;
    for (const { ran, blocks } of this.#functions.values()) {
      known += blocks.size;
      for (const block of blocks) covered += ran[block]!;
    }
    return { covered, known };
  }

  /** Source characters of the blocks that have not run, by file; for people. */
  missing(): ReadonlyMap<string, number> {
    const files = new Map<string, number>();
    for (const [name, { ran, blocks }] of this.#functions) {
      const file = name.slice(0, name.lastIndexOf(':', name.lastIndexOf(':') - 1));
      const missed = [...blocks].filter((block) => ran[block] === 0).length;
      files.set(file, (files.get(file) ?? 0) + missed);
    }
    return files;
  }

  record(): CoverageRecord {
    return [...this.#functions].map(([name, { start, ran, blocks }]) => [
      name,
      start,
      Buffer.from(ran).toString('base64'),
      [...blocks],
    ]);
  }

  #note(file: string, ranges: readonly Range[]): boolean {
    const { startOffset: start, endOffset: end } = ranges[0]!;
    const name = `${file}:${start}:${end}`;
    let state = this.#functions.get(name);
    if (state === undefined) {
      state = { start, ran: new Uint8Array(end - start), blocks: new Set(), seen: new Set() };
      this.#functions.set(name, state);
    }
    const key = ranges.map(({ startOffset, count }) => `${startOffset}:${count}`).join();
    if (state.seen.has(key)) return false;
    state.seen.add(key);
    return mark(state, ranges);
  }
}

/** Inner ranges follow the outer ones that they correct. */
function mark({ start, ran, blocks }: FunctionState, ranges: readonly Range[]): boolean {
  const now = new Uint8Array(ran.length);
  for (const { startOffset, endOffset, count } of ranges) {
    blocks.add(startOffset - start);
    now.fill(count > 0 ? 1 : 0, startOffset - start, endOffset - start);
  }
  let isNew = false;
  for (let at = 0; at < now.length; at++) {
    if (now[at]! <= ran[at]!) continue;
    ran[at] = 1;
    isNew = true;
  }
  return isNew;
}
