/** Processes that write a mounted disk until its daemon comes to an end. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Defer } from '../support/clean-up.js';
import { MiB } from '../support/images.js';
import { isRunning } from '../support/mounts.js';
import { SECTOR_SIZE } from '../support/pattern.js';
import { waitUntil } from '../support/wait.js';
import { type ExpectedDisk, type Operation, STRIPE } from './stamps.js';

/** Of the disk that they write. */
export const LOADED_BYTES = 24 * MiB;
const WRITERS = 2;

export interface Load {
  /** Lines that the writers print before the daemon is told to end. */
  readonly until: number;
  readonly seed: number;
  /** The number of the first operation. */
  readonly next: number;
  /** Ends the daemon. */
  end(daemon: number): void;
}

/**
 * Lets the writers work until they printed so many lines, then ends their daemon, and waits until all are gone.
 * @returns the number of the next operation, and how many were acknowledged
 */
export async function writeUntilEnded(
  defer: Defer,
  disk: string,
  daemon: number,
  mode: string,
  expected: ExpectedDisk,
  { until, seed, next, end }: Load,
): Promise<{ next: number; acknowledged: number }> {
  let lines = 0;
  let last = next - 1;
  let acknowledged = 0;
  const writers = Array.from({ length: WRITERS }, (_, writer) => {
    const isOwn = ({ start }: Operation): boolean => Math.floor(start / STRIPE) % WRITERS === writer;
    return startWriter(defer, disk, mode, seed + writer, next, writer, (line) => {
      const [word, rest] = [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)];
      if (word === 'begin') {
        const operation = JSON.parse(rest) as Operation;
        last = Math.max(last, operation.number);
        expected.begin(operation);
      } else {
        acknowledged += expected.acknowledge(Number(rest), isOwn);
      }
      if (++lines === until) end(daemon);
    });
  });
  const statuses = await Promise.all(writers);
  expect(statuses).to.deep.equal(Array(WRITERS).fill(0));
  await waitUntil(`daemon ${daemon} has ended`, () => !isRunning(daemon));
  return { next: last + 1, acknowledged };
}

function startWriter(
  defer: Defer,
  disk: string,
  mode: string,
  seed: number,
  first: number,
  writer: number,
  onLine: (line: string) => void,
): Promise<number | null> {
  const script = fileURLToPath(new URL('stamping-writer.js', import.meta.url));
  const sectors = LOADED_BYTES / SECTOR_SIZE;
  const args = [disk, sectors, mode, seed, first, writer, WRITERS].map(String);
  const child: ChildProcess = spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  defer(() => child.kill('SIGKILL'));
  let rest = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  });
  return new Promise((resolve) => child.once('close', resolve));
}
