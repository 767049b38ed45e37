/**
 * The power goes at every instant while several threads write and flush one image: what any of them was told to be on
 * stable storage is there. By hand with more seeds: QCOW2FS_CUTS=20 make test TESTS=dist/test/concurrency/crash.test.js
 */

import { type Defer, useCleanUp } from '../support/clean-up.js';
import { SURVIVALS } from '../support/crash/disk.js';
import { describeOperation, Expectation, type Operation } from '../support/crash/history.js';
import { type CrashImage, crashVariants } from '../support/crash/images.js';
import { Judge } from '../support/crash/judge.js';
import { lane } from '../support/lane.js';
import { randomNumbers } from '../support/random-guest.js';
import { useScratch } from '../support/scratch.js';
import { recordThreads, type ThreadedRecording } from './crash-recording.js';
import { ReplayedFile } from './crash-replay.js';
import type { TimedOperation } from './crash-thread.js';

/** Workloads for each kind of image. */
const SEEDS = Number(process.env['QCOW2FS_CUTS'] ?? lane(1, 4));
const FIRST_SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
/** Of all threads together. */
const OPERATIONS = lane(36, 90, 12);
const LOADS = [
  { threads: 3, erasing: true },
  { threads: 6, erasing: false },
] as const;
type Load = (typeof LOADS)[number];

/** Those whose writes are ordered differently; LUKS takes too long to open a thousand times. */
const KINDS: readonly string[] = [
  'v3, 64 KiB clusters',
  'v3, 512 B clusters',
  'v3, 4 KiB clusters, a snapshot',
  'v3, 4 KiB clusters, compressed',
  'v3, 16 KiB clusters, extended L2, a backing file',
  'v3, 4 KiB clusters, a data file',
];

async function cutEverywhere(image: CrashImage, load: Load, seed: number, defer: Defer): Promise<void> {
  const work = { ...load, operations: Math.ceil(OPERATIONS / load.threads), seed };
  const recording = await recordThreads(image, work, defer);
  const { before, log } = recording;
  const judge = await Judge.of(image, before);
  const files = new Map(
    [...before].map(([path, bytes]) => [
      path,
      new ReplayedFile(
        bytes,
        log.filter((call) => call.path === path),
      ),
    ]),
  );
  const progress = new Progress(recording);
  const random = randomNumbers(seed);
  for (const [cut, moment] of momentsOf(recording).entries()) {
    progress.advance(moment);
    for (const file of files.values()) file.advance(moment);
    const where = `cut at tick ${moment} in ${progress.describe()}`;
    const survivals = [() => true, SURVIVALS[cut % SURVIVALS.length]!(random)];
    for (const survives of survivals) {
      const left = new Map([...files].map(([path, file]) => [path, file.afterCut(survives)]));
      await judge.judge(left, progress.expectation, where);
    }
  }
  insistOnReplay(recording, files);
  if (judge.states < OPERATIONS / 2) throw new Error(`only ${judge.states} states were judged`);
}

/** All moments after which something else may be left, or must be. */
function momentsOf({ log, operations }: ThreadedRecording): number[] {
  const flushes = operations.filter(({ operation }) => operation.do === 'flush').map(({ end }) => end);
  return [0, ...log.map(({ applied }) => applied), ...flushes].sort((a, b) => a - b);
}

/** What was replayed is what the threads saw. */
function insistOnReplay({ after }: ThreadedRecording, files: ReadonlyMap<string, ReplayedFile>): void {
  for (const [path, file] of files) {
    if (!file.afterCut(() => true).equals(after.get(path)!))
      throw new Error(`${path}: the recording is wrong`);
  }
}

/** Which operations have begun and ended at a moment, and what must therefore be there. */
class Progress {
  readonly expectation: Expectation;
  readonly #waiting: TimedOperation[];
  readonly #flushes: TimedOperation[];
  readonly #ends: ReadonlyMap<Operation, number>;
  #last: readonly TimedOperation[] = [];

  constructor({ content, operations }: ThreadedRecording) {
    this.expectation = new Expectation(content);
    this.#waiting = [...operations];
    this.#ends = new Map(operations.map(({ operation, end }) => [operation, end]));
    this.#flushes = operations
      .filter(({ operation }) => operation.do === 'flush')
      .sort((a, b) => a.end - b.end);
  }

  advance(moment: number): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.begin <= moment) {
      const next = this.#waiting.shift()!;
      this.expectation.begin(next.operation);
      this.#last = [...this.#last.slice(-5), next];
    }
    while (this.#flushes.length > 0 && this.#flushes[0]!.end <= moment) {
      const { begin } = this.#flushes.shift()!;
      this.expectation.settle((operation) => this.#ends.get(operation)! < begin);
    }
  }

  describe(): string {
    return this.#last
      .map(({ operation, begin, end }) => `${describeOperation(operation)} (${begin} to ${end})`)
      .join('; ');
  }
}

describe('a power cut while several threads write', function () {
  this.timeout(SEEDS * 600_000);
  for (const kind of lane(KINDS, KINDS, KINDS.slice(0, 1))) {
    const { name, build } = crashVariants.find((variant) => variant.name === kind)!;
    describe(name, () => {
      const scratch = useScratch();
      const defer = useCleanUp();
      for (const load of LOADS) {
        const what = `${load.threads} threads${load.erasing ? '' : ' that do not erase'}`;
        it(`leaves what was flushed, and an image without corruption: ${what}`, async () => {
          for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
            try {
              await cutEverywhere(build(scratch.subdir()), load, seed, defer);
            } catch (error) {
              throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`);
            }
          }
        });
      }
    });
  }
});
