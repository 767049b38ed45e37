/** A table of things that `qcow2fs mount` must refuse, and what every refusal has in common. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { EXIT_STATUS } from '../../src/cli/exit-status.js';
import type { ErrorKind } from '../../src/errors.js';
import { daemonsOf, endMount, mountsAt } from './mounts.js';
import { BIN, type Outcome } from './qcow2fs.js';
import { useScratch } from './scratch.js';

/** What to mount where; paths are absolute. */
export interface Attempt {
  readonly image: string;
  /** An empty directory of the case's own unless given. */
  readonly mountpoint?: string;
  readonly args?: readonly string[];
}

export interface Refusal {
  /** Goes on after "refuses ". */
  readonly title: string;
  /** Makes the files in an empty directory; returns the image, or all there is to say. */
  readonly make: (dir: string) => string | Attempt;
  readonly kind: ErrorKind;
  /** What the one line must say. */
  readonly words: readonly string[];
  /** How the mount is tried: read-only unless said otherwise. */
  readonly access?: readonly string[];
}

/** Content that no refusal may show: no byte of a file that is refused appears anywhere. */
export const CANARY = '7f1d-canary-of-a-file-outside';

const TIMEOUT_MS = 120_000;
const MOUNTPOINT = 'mnt';

/** Everything is tried at once, as far as there are processors; each case is then judged on its own. */
export function describeRefusals(title: string, refusals: readonly Refusal[]): void {
  describe(`qcow2fs mount and ${title}`, () => {
    const attempts = new Map<Refusal, Required<Attempt>>();
    // Before the scratch directory goes: hooks run in the order in which they are registered.
    after(() => {
      for (const { mountpoint } of attempts.values()) endMount(mountpoint);
    });
    const scratch = useScratch();
    const outcomes = new Map<Refusal, Outcome>();
    const problems = new Map<Refusal, unknown>();

    before(async function () {
      this.timeout(3 * TIMEOUT_MS);
      const waiting = [...refusals];
      const work = async (): Promise<void> => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          try {
            const attempt = prepare(next, scratch.subdir());
            attempts.set(next, attempt);
            outcomes.set(next, await tryMount(attempt, next.access ?? ['-r']));
          } catch (error) {
            problems.set(next, error);
          }
        }
      };
      await Promise.all(Array.from({ length: availableParallelism() }, work));
    });
    for (const refusal of refusals) {
      it(`refuses ${refusal.title}`, () => {
        if (problems.has(refusal)) throw problems.get(refusal);
        const { mountpoint } = attempts.get(refusal)!;
        expect(readIfThere(logOf(mountpoint)), 'the log').to.not.contain(CANARY);
        expectRefused(outcomes.get(refusal)!, refusal.kind, refusal.words);
        expect(mountsAt(mountpoint), 'mounts').to.deep.equal([]);
        expect(daemonsOf(mountpoint), 'daemons').to.deep.equal([]);
        if (path.basename(mountpoint) === MOUNTPOINT) expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
      });
    }
  });
}

function prepare({ make }: Refusal, dir: string): Required<Attempt> {
  const mountpoint = path.join(dir, MOUNTPOINT);
  fs.mkdirSync(mountpoint);
  const made = make(dir);
  return { mountpoint, args: [], ...(typeof made === 'string' ? { image: made } : made) };
}

function logOf(mountpoint: string): string {
  return `${mountpoint}.log`;
}

function readIfThere(file: string): string {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
}

function tryMount(
  { image, mountpoint, args }: Required<Attempt>,
  access: readonly string[],
): Promise<Outcome> {
  const words = ['mount', ...access, '--log', logOf(mountpoint), ...args, image, mountpoint];
  const child = spawn(process.execPath, [BIN, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, ...output }));
  });
}

/** One clear line, the documented status, and nothing that only a programmer understands. */
export function expectRefused(
  { status, stdout, stderr }: Outcome,
  kind: ErrorKind,
  words: readonly string[],
): void {
  expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
  for (const word of words) expect(stderr).to.contain(word);
  expect(stderr + stdout).to.not.contain(CANARY);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not reach a terminal
  expect(stderr.trimEnd()).to.not.match(/[\x00-\x1f\x7f-\x9f]/);
  expect(stderr).to.not.match(/node:|\.[jt]s:\d|\bat \S+ \(|undefined|\[object/);
  expect(stdout).to.equal('');
  expect(status).to.equal(EXIT_STATUS[kind]);
}
