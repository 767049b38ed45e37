/** Which test files run in which order, and how they ended: the part of run-suite.ts that starts nothing. */
import path from 'node:path';
import type { TestEvent } from './reporter.js';

/** Files below it are small: those of a directory share a Mocha process. */
const SMALL = 'dist/test/unit/';

/** What takes longest goes first, so that nothing long begins when all else is done. */
const LONGEST_FIRST = [
  'matrix',
  'mount/conformance',
  'system',
  'writing/crash',
  'mount/kill',
  'concurrency',
  'mount/contention',
].map((start) => `dist/test/${start}`);

const WILDCARDS: Readonly<Record<string, string>> = {
  '**/': '(.+/)?',
  '**': '.*',
  '*': '[^/]*',
  '?': '[^/]',
};

/** Those files that a pattern names, as itself, as a shell would or by their directory; `**` spans directories. */
export function matching(files: readonly string[], patterns: readonly string[]): string[] {
  const expressions = patterns.map((pattern) => {
    const source = pattern.replace(
      /\*\*\/|\*\*|[*?.+^$(){}|[\]\\]/g,
      (part) => WILDCARDS[part] ?? `\\${part}`,
    );
    return new RegExp(`^${source}(/.*)?$`);
  });
  return files.filter((file) => expressions.some((expression) => expression.test(file)));
}

/** Files for one Mocha process. */
export type Batch = readonly string[];

/** @returns in the order in which to start them */
export function batchesOf(files: readonly string[]): Batch[] {
  const batches = new Map<string, Batch>();
  for (const file of [...files].sort()) {
    const key = file.startsWith(SMALL) ? path.dirname(file) : file;
    batches.set(key, [...(batches.get(key) ?? []), file]);
  }
  const rank = ([file]: Batch): number => {
    const index = LONGEST_FIRST.findIndex((start) => file!.startsWith(start));
    return index === -1 ? LONGEST_FIRST.length : index;
  };
  return [...batches.values()].sort((a, b) => rank(a) - rank(b));
}

export interface Failure {
  readonly file: string;
  /** Empty when the process failed rather than a test. */
  readonly title: string;
  readonly error: string;
}

export interface Result {
  readonly passed: number;
  readonly failures: readonly Failure[];
}

/**
 * @param events what the process of a batch told
 * @param ending how it ended, unless that was in order
 */
export function resultOf(batch: Batch, events: readonly TestEvent[], ending: string | undefined): Result {
  const passed = events.filter(({ event }) => event === 'pass').length;
  const failures: Failure[] = events.filter((event) => event.event === 'fail');
  const isComplete = events.at(-1)?.event === 'end';
  if (isComplete && (ending === undefined || failures.length > 0)) return { passed, failures };
  const begun = events.findLast(({ event }) => event === 'begin');
  const error = `${ending ?? 'its process ended early'}${
    isComplete ? '' : begun?.event === 'begin' ? `, in or after: ${begun.title}` : ', before its first test'
  }`;
  return { passed, failures: [...failures, { file: batch.join(' '), title: '', error }] };
}

/** Each failure with the command that repeats it, and the line that sums it all up. */
export function closing(results: readonly Result[]): string {
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failures = results.flatMap((result) => result.failures);
  const list = failures.map(({ file, title, error }) => {
    const command = `node_modules/.bin/mocha ${file}${title === '' ? '' : ` --fgrep ${quoted(title)}`}`;
    return `\n${title === '' ? file : title}\n  ${error.replaceAll('\n', '\n  ')}\n  alone: ${command}\n`;
  });
  const heading = failures.length > 0 ? ['\nFAILED\n'] : [];
  return [...heading, ...list, `\n${passed} passed, ${failures.length} failed\n`].join('');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
