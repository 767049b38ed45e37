/** Which test files run side by side, and what became of each: the part of run-suite.ts that starts nothing. */
import { stripVTControlCharacters } from 'node:util';

/** Of these, by how their names begin, never two run at a time: what they share, the machine has once. */
export const IN_TURN: Readonly<Record<string, string>> = {
  'dist/test/mount/': "they change /dev/fuse's mode, share one ordinary user, and look for free loop devices",
  'dist/test/cli/': "they change /dev/fuse's mode and share the ordinary user",
  'dist/test/docs/': 'they look for free loop devices',
  'dist/test/system/': 'they build clones, which takes all processors, and ask registries',
};

/** What takes minutes, longest first: nothing long begins when all else is done. */
const LONG: readonly string[] = [
  'dist/test/writing/differential',
  'dist/test/writing/crash',
  'dist/test/conformance/',
  'dist/test/writing/fault',
  'dist/test/concurrency/',
  'dist/test/check/',
  'dist/test/fuzz/',
];

const TAIL_LINES = 40;
const CLOSING_LINE = /(?<![^\n])(\d+) passed, (\d+) failed\n$/;
const FAILURES = /^ {2}\d+ failing\n/m;
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

/** The files that still wait. Those in turn come first: no number of processors makes them faster. */
export class Queue {
  #waiting: readonly string[];
  #inTurn: string | undefined;

  constructor(files: readonly string[]) {
    this.#waiting = [...files].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  }

  /** @returns undefined when there is nothing to do, or only for whom runs what goes in turn */
  take(): string | undefined {
    const next = this.#waiting.find((file) => this.#inTurn === undefined || !isInTurn(file));
    if (next === undefined) return undefined;
    this.#waiting = this.#waiting.filter((file) => file !== next);
    if (isInTurn(next)) this.#inTurn = next;
    return next;
  }

  done(file: string): void {
    if (this.#inTurn === file) this.#inTurn = undefined;
  }

  clear(): void {
    this.#waiting = [];
  }
}

function isInTurn(file: string): boolean {
  return Object.keys(IN_TURN).some((start) => file.startsWith(start));
}

function rank(file: string): number {
  if (isInTurn(file)) return -1;
  const long = LONG.findIndex((start) => file.startsWith(start));
  return long === -1 ? LONG.length : long;
}

/** How the process of a test file ended. */
export interface Ending {
  /** Standard output and error. */
  readonly output: string;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it was ended, if it did not end by itself. */
  readonly ended?: string;
}

export interface Result {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  /** What its process wrote, without the closing line. */
  readonly output: string;
  /** What failed, with messages and stacks; empty when nothing did. */
  readonly failures: string;
}

/** A file fails, too, when its process does not tell how its tests went, or has another complaint in the end. */
export function resultOf(file: string, { output, status, signal, ended }: Ending): Result {
  const plain = stripVTControlCharacters(output);
  const closing = CLOSING_LINE.exec(plain);
  const [passed, failed] = [Number(closing?.[1] ?? 0), Number(closing?.[2] ?? 0)];
  const body = plain.replace(CLOSING_LINE, '').trim();
  const shown = output.replace(CLOSING_LINE, '').trimEnd();
  if (failed > 0) {
    const begin = FAILURES.exec(body)?.index ?? 0;
    return { file, passed, failed, output: shown, failures: body.slice(begin).replace(FAILURES, '').trim() };
  }
  if (closing !== null && status === 0) return { file, passed, failed, output: shown, failures: '' };
  const way = signal === null ? `status ${status}` : signal;
  const why = ended ?? `its process ended with ${way}${closing === null ? ' and no closing line' : ''}`;
  const tail = body.split('\n').slice(-TAIL_LINES).join('\n');
  return { file, passed, failed: 1, output: shown, failures: tail === '' ? why : `${why}, after:\n${tail}` };
}

/** Everything that failed, file by file, and the line that sums it all up. */
export function closing(results: readonly Result[]): { readonly text: string; readonly hasFailed: boolean } {
  const bad = results.filter(({ failed }) => failed > 0);
  const list = bad.map(({ file, failures }) => `\n${file}:\n\n  ${failures.trimStart()}\n`);
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failed, 0);
  const text = [
    ...(bad.length > 0 ? ['\nFAILED\n', ...list] : []),
    '\n',
    `${passed} passed, ${failed} failed\n`,
  ];
  return { text: text.join(''), hasFailed: failed > 0 };
}
