import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { RwLock } from '../../../src/host/rw-lock.js';
import { expectError } from '../support/errors.js';
import type { Task } from './rw-lock-worker.js';

const SCRIPT = new URL('./rw-lock-worker.js', import.meta.url);
/** Word 2 of the lock: threads asleep (src/host/rw-lock.ts). */
const SLEEPERS = 2;

describe('the reader/writer lock', () => {
  let memory: SharedArrayBuffer;
  let data: SharedArrayBuffer;
  let words: Int32Array;
  let lock: RwLock;

  beforeEach(() => {
    memory = RwLock.allocate();
    data = new SharedArrayBuffer(64);
    words = new Int32Array(data);
    lock = new RwLock(memory);
  });

  async function run(role: Task['role'], rounds = 0): Promise<string> {
    const worker = new Worker(SCRIPT, { workerData: { role, lock: memory, data, rounds } satisfies Task });
    const exited = once(worker, 'exit');
    const [answer] = (await once(worker, 'message')) as [string];
    await exited;
    return answer;
  }

  async function asleep(count: number, otherwise: () => boolean = () => false): Promise<void> {
    const state = new Int32Array(memory);
    while (Atomics.load(state, SLEEPERS) < count && !otherwise()) await setImmediate();
  }

  it('never lets a reader see half a write, nor a write get lost', async () => {
    const rounds = 20_000;
    const roles = ['write', 'write', 'write', 'read', 'read', 'read'] as const;
    const answers = await Promise.all(roles.map((role) => run(role, rounds)));
    expect(answers).to.deep.equal(roles.map(() => 'done'));
    expect([...words.subarray(0, 3)]).to.deep.equal([3 * rounds, 3 * rounds, 0]);
  });

  it('lets readers in together', async () => {
    const readers = 4;
    const answers = await Promise.all(Array.from({ length: readers }, () => run('meet', readers)));
    expect(answers).to.deep.equal(Array(readers).fill('done'));
  });

  it('lets a waiting writer in before readers that come later', async () => {
    lock.acquireShared();
    const writer = run('log-exclusive');
    await asleep(1);
    const reader = run('log-shared');
    await asleep(2, () => Atomics.load(words, 2) > 0);
    lock.releaseShared();
    await Promise.all([writer, reader]);
    expect([...words.subarray(2, 5)]).to.deep.equal([2, 2, 1]);
  });

  it('keeps everybody out while a writer is in', async () => {
    lock.acquireExclusive();
    const others = [run('log-shared'), run('log-exclusive')];
    await asleep(2, () => Atomics.load(words, 2) > 0);
    expect(Atomics.load(words, 2)).to.equal(0);
    lock.releaseExclusive();
    expect(await Promise.all(others)).to.deep.equal(['done', 'done']);
  });

  it('that is poisoned lets nobody in any more', () => {
    lock.poison();
    expectError('internal', ['unmount and mount again'], () => lock.acquireShared());
    expectError('internal', ['unmount and mount again'], () => lock.acquireExclusive());
  });

  it('that is poisoned wakes all who wait, and fails them', async () => {
    lock.acquireExclusive();
    const others = [run('acquire-shared'), run('acquire-exclusive'), run('acquire-shared')];
    await asleep(3);
    lock.poison();
    expect(await Promise.all(others)).to.deep.equal(['internal', 'internal', 'internal']);
  });
});
