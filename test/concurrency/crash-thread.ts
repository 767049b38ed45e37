/** A thread that writes and flushes its own territories of a disk, and records all that it does, tick by tick. */
import { parentPort, workerData } from 'node:worker_threads';
import { attachDisk, type Layers } from '../../src/qcow2/chain.js';
import type { Range } from '../support/contention/layout.js';
import { type Operation, perform, stamped } from '../support/crash/history.js';
import { randomNumbers } from '../support/random-guest.js';
import { type Recorded, Recorder, type SharedFile } from './shared-file.js';

export interface CrashOrder {
  readonly layers: Layers;
  readonly files: readonly SharedFile[];
  readonly clock: SharedArrayBuffer;
  readonly territories: readonly Range[];
  readonly operations: number;
  readonly seed: number;
  readonly thread: number;
  /** Without it there are more flushes, and soon most writes go where the data lies already. */
  readonly erasing: boolean;
}

export interface TimedOperation {
  readonly operation: Operation;
  readonly begin: number;
  readonly end: number;
}

export interface CrashReport {
  readonly log: readonly Recorded[];
  readonly operations: readonly TimedOperation[];
}

const { layers, files, clock, territories, operations, seed, thread, erasing } = workerData as CrashOrder;
const random = randomNumbers(seed * 1000 + thread);
const recorder = new Recorder(files, clock, randomNumbers(seed * 77 + thread));
const disk = await attachDisk(layers, recorder.storageOf);
const expected = new Map(territories.map((range) => [range, undefined as Buffer | undefined]));
const timed: TimedOperation[] = [];

const flushing = erasing ? 0.22 : 0.35;

/** @returns undefined for a read, which is made at once */
function nextOperation(stamp: number): Operation | undefined {
  const dice = random();
  if (dice < flushing) return { do: 'flush' };
  const range = territories[Math.floor(random() * territories.length)]!;
  if (dice < flushing + 0.08) {
    check(range);
    return undefined;
  }
  const whole = random() < 0.25;
  const skip = whole ? 0 : Math.floor(random() * range.length);
  const length = whole ? range.length : 1 + Math.floor(random() * (range.length - skip));
  const offset = range.offset + skip;
  const content = expected.get(range) ?? read(range);
  expected.set(range, content);
  if (!erasing || dice < 0.75) {
    const bytes = stamped(stamp * 8 + thread, offset, length);
    bytes.copy(content, skip);
    return { do: 'write', offset, bytes };
  }
  content.fill(0, skip, skip + length);
  return { do: dice < 0.9 ? 'discard' : 'zero', offset, length };
}

function read({ offset, length }: Range): Buffer {
  const bytes = Buffer.alloc(length);
  disk.read(bytes, 0, length, offset);
  return bytes;
}

function check(range: Range): void {
  const found = read(range);
  const content = expected.get(range);
  if (content === undefined || content.equals(found)) return;
  throw new Error(`thread ${thread} does not read at ${range.offset} what it wrote`);
}

for (let stamp = 1; stamp <= operations; stamp++) {
  const operation = nextOperation(stamp);
  if (operation === undefined) continue;
  const begin = recorder.tick();
  perform(disk, operation);
  timed.push({ operation, begin, end: recorder.tick() });
}
parentPort!.postMessage({ log: recorder.log, operations: timed } satisfies CrashReport);
