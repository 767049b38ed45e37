/**
 * The host fails a call: the caller is told which errno, the disk stays usable, and nothing but the range of the failed
 * operation is in doubt. What a failed sync leaves, crash.test.ts tells. By hand with more calls: QCOW2FS_FAULTS=10 make test TESTS=dist/test/writing/fault.test.js
 */

import fs from 'node:fs';
import path from 'node:path';
import { Qcow2fsError } from '../../src/errors.js';
import { Errno, errnoOf } from '../../src/fuse/errno.js';
import {
  describeOperation,
  Expectation,
  type Operation,
  perform,
  workload,
} from '../support/crash/history.js';
import { type CrashImage, crashVariants } from '../support/crash/images.js';
import { checkImage } from '../support/crash/oracle.js';
import {
  contentOf,
  type Files,
  inMemory,
  openInMemory,
  readAndClose,
  readFiles,
} from '../support/crash/recording.js';
import { lane } from '../support/lane.js';
import { useScratch } from '../support/scratch.js';
import { type Fault, FaultyHost } from './fault-storage.js';

/** Tries for each kind of fault and image; each fails other calls. */
const DENSITY = Number(process.env['QCOW2FS_FAULTS'] ?? lane(1, 2));
const SEED = Number(process.env['QCOW2FS_SEED'] ?? 1);
const TRIES = lane(5, 24, 1);
/** Of a single write, where each leaves something else. */
const TRIES_OF_WRITES = lane(8, Number.POSITIVE_INFINITY, 2);
const OPERATIONS = 40;

const ERRNO = { ENOSPC: Errno.ENOSPC, EIO: Errno.EIO };

interface Outcome {
  readonly host: FaultyHost;
  readonly files: Files;
  /** Of the disk when it was closed. */
  readonly content: Buffer;
}

/** Runs the workload, which goes on after every failure; the last operations and the end meet a host that works. */
async function suffer(
  image: CrashImage,
  before: Files,
  operations: readonly Operation[],
  fault: Fault,
): Promise<Outcome> {
  const host = new FaultyHost(fault);
  const files = inMemory(before);
  const disk = await openInMemory(
    image.image,
    files,
    { writable: true, resizable: image.growth > 0 },
    host.witness,
  );
  const expectation = new Expectation(contentOf(disk));
  const attempt = (operation: Operation): void => {
    const failures = host.failures;
    let failed = false;
    expectation.begin(operation);
    host.armed = true;
    try {
      perform(disk, operation);
    } catch (error) {
      failed = true;
      const told = error instanceof Qcow2fsError && error.kind === 'host-io';
      if (host.failures === failures || !told || errnoOf(error) !== ERRNO[fault.code]) {
        const message = error instanceof Error ? error.stack : String(error);
        throw new Error(`${describeOperation(operation)} fails with ${message}`);
      }
    } finally {
      host.armed = false;
    }
    // What is read before a change takes the lock may turn out not to be wanted.
    const mayBeSilent = fault.kinds.includes('punch') || fault.kinds.includes('read');
    if (!failed && host.failures > failures && !mayBeSilent) {
      throw new Error(`${describeOperation(operation)} does not tell of a failure`);
    }
    const content = contentOf(disk);
    const problem = expectation.problemOf(content);
    if (problem !== undefined) throw new Error(`after ${describeOperation(operation)}: ${problem}`);
    // A resize that failed may have happened or not; what is there now is what must stay.
    expectation.settleAs(content);
  };
  let content: Buffer;
  try {
    for (const operation of operations) if (endOf(operation) <= disk.size) attempt(operation);
    host.recover();
    attempt({ do: 'flush' });
    const last: Operation = { do: 'write', offset: 0, bytes: Buffer.alloc(700, 0xab) };
    perform(disk, last);
    expectation.begin(last);
    perform(disk, { do: 'flush' });
    content = contentOf(disk);
    const problem = expectation.problemOf(content);
    if (problem !== undefined) throw new Error(`at the end: ${problem}`);
  } finally {
    disk.close();
  }
  return { host, files: new Map([...files].map(([name, file]) => [name, file.content])), content };
}

/** A disk that could not grow has no room for what was to come there. */
function endOf(operation: Operation): number {
  if (operation.do === 'flush' || operation.do === 'resize') return 0;
  return operation.offset + (operation.do === 'write' ? operation.bytes.length : operation.length);
}

/** Every so many calls of a kind fail, from call 0 to the last one. */
async function sufferEverywhere(
  image: CrashImage,
  slot: string,
  fault: Omit<Fault, 'first'>,
  tries = TRIES * DENSITY,
): Promise<void> {
  const before = readFiles(image);
  const { clusterSize, growth } = image;
  const options = { operations: OPERATIONS, clusterSize, maxLength: 48 * 1024, growth };
  const size = readAndClose(await openInMemory(image.image, inMemory(before))).length;
  const operations = workload(SEED, size, options);
  const { host } = await suffer(image, before, operations, { ...fault, first: Number.POSITIVE_INFINITY });
  const problems: string[] = [];
  const step = Math.max(1, Math.ceil(host.calls / tries));
  for (let first = SEED % step; first < host.calls; first += step) {
    const what = `${fault.count} calls from ${first} of ${fault.kinds.join(', ')} fail with ${fault.code}`;
    try {
      const outcome = await suffer(image, before, operations, { ...fault, first });
      for (const [name, content] of outcome.files) {
        fs.writeFileSync(path.join(slot, path.basename(name)), content);
      }
      const { corruptions, errors, leaks, report } = checkImage({ ...image.image, dir: slot });
      if (corruptions + errors + leaks > 0) throw new Error(report);
      const again = readAndClose(await openInMemory(image.image, inMemory(outcome.files)));
      if (!again.equals(outcome.content)) throw new Error('it reads something else when it is mounted again');
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : error}`);
    }
  }
  if (problems.length > 0) throw new Error(problems.join('\n'));
}

const CHANGES = ['write', 'zero', 'truncate'] as const;

describe('a host that fails', function () {
  this.timeout(DENSITY * 600_000);
  for (const variant of crashVariants.slice(0, lane(crashVariants.length, crashVariants.length, 3))) {
    describe(variant.name, () => {
      const scratch = useScratch();
      let image: CrashImage;
      let slot: string;

      before(() => {
        image = variant.build(scratch.subdir());
        slot = scratch.subdir();
        fs.cpSync(image.image.dir, slot, { recursive: true });
      });

      it('with a full disk at any one write: the rest goes on', () =>
        sufferEverywhere(
          image,
          slot,
          { count: 1, code: 'ENOSPC', kinds: CHANGES, partly: true },
          TRIES_OF_WRITES,
        ));

      it('with a full disk for a while: the rest goes on', () =>
        sufferEverywhere(image, slot, { count: 12, code: 'ENOSPC', kinds: CHANGES, partly: true }));

      it('at one read: nothing is lost', () =>
        sufferEverywhere(image, slot, { count: 1, code: 'EIO', kinds: ['read'], partly: false }));

      it('at everything for a while: the rest goes on', () =>
        sufferEverywhere(image, slot, {
          count: 9,
          code: 'EIO',
          kinds: [...CHANGES, 'read', 'punch'],
          partly: true,
        }));

      it('to make holes: nobody needs them', () =>
        sufferEverywhere(image, slot, {
          count: Number.POSITIVE_INFINITY,
          code: 'EIO',
          kinds: ['punch'],
          partly: false,
        }));
    });
  }
});
