/** A table of things that `qcow2fs mount` must refuse, and what every refusal has in common. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { EXIT_STATUS } from '../../src/cli/exit-status.js';
import type { ErrorKind } from '../../src/errors.js';
import { isFuseNativeLoaded } from './fuse-native.js';
import { runInProcess } from './in-process.js';
import { daemonsOf, mountsAt, stopDaemons } from './processes.js';
import { BIN, type Outcome } from './qcow2fs.js';
import { type Scratch, useScratch } from './scratch.js';

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
  /** Needs the whole command: it would hang where it fails, or has to do with the process that it runs in. */
  readonly ownProcess?: boolean;
}

/** Content that no refusal may show: no byte of a file that is refused appears anywhere. */
export const CANARY = '7f1d-canary-of-a-file-outside';

const MOUNTPOINT = 'mnt';
/** The way to the images is that of a mount in the background; serving takes no thread. */
const FOREGROUND = ['--foreground', '--transport', 'libfuse'];
const AS_DAEMON = { cwd: '/' } as const;
const TIMEOUT_MS = 120_000;

/**
 * Each case runs in the process of the test, unless it needs one of its own; and the whole command runs for one case of
 * the table at least.
 */
export function describeRefusals(title: string, refusals: readonly Refusal[]): void {
  describe(`qcow2fs mount and ${title}`, () => {
    const mountpoints: string[] = [];
    // Before the scratch directory goes: hooks run in the order in which they are registered.
    after(async () => {
      for (const mountpoint of mountpoints) await stopDaemons(mountpoint);
    });
    const scratch = useScratch();
    const sample = refusals.some(({ ownProcess }) => ownProcess) ? undefined : refusals[0];

    for (const refusal of refusals) {
      if (!refusal.ownProcess) {
        it(`refuses ${refusal.title}`, async () => {
          const attempt = prepare(refusal, scratch);
          expectNothingLeft(
            refusal,
            attempt,
            await runInProcess(words(refusal, attempt, FOREGROUND), AS_DAEMON),
          );
          expect(isFuseNativeLoaded(), 'fuse-native is loaded').to.equal(false);
        });
      }
      if (refusal.ownProcess || refusal === sample) {
        it(`refuses ${refusal.title}, in the background`, () => {
          const attempt = prepare(refusal, scratch);
          mountpoints.push(attempt.mountpoint);
          const log = `${attempt.mountpoint}.log`;
          expectNothingLeft(refusal, attempt, mountInBackground(words(refusal, attempt, ['--log', log])));
          expect(readIfThere(log), 'the log').to.not.contain(CANARY);
        });
      }
    }
  });
}

function prepare({ make }: Refusal, scratch: Scratch): Required<Attempt> {
  const dir = scratch.subdir();
  const mountpoint = path.join(dir, MOUNTPOINT);
  fs.mkdirSync(mountpoint);
  const made = make(dir);
  return { mountpoint, args: [], ...(typeof made === 'string' ? { image: made } : made) };
}

function words(
  { access = ['-r'] }: Refusal,
  { image, mountpoint, args }: Required<Attempt>,
  how: readonly string[],
): string[] {
  return ['mount', ...access, ...how, ...args, image, mountpoint];
}

/** Without standard input. */
function mountInBackground(args: readonly string[]): Outcome {
  const { error, status, stdout, stderr } = spawnSync(BIN, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  });
  if (error) throw error;
  return { status, stdout, stderr };
}

function expectNothingLeft(
  { kind, words }: Refusal,
  { mountpoint }: Required<Attempt>,
  outcome: Outcome,
): void {
  expectRefused(outcome, kind, words);
  expect(mountsAt(mountpoint), 'mounts').to.deep.equal([]);
  expect(daemonsOf(mountpoint), 'daemons').to.deep.equal([]);
  if (path.basename(mountpoint) === MOUNTPOINT) expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
}

function readIfThere(file: string): string {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
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
