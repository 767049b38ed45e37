import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { allocateLookout, Lookout } from '../../../src/fuse/lookout.js';
import type { Task } from './lookout-worker.js';

const HOUR = 3_600_000;
const SCRIPT = new URL('./lookout-worker.js', import.meta.url);

describe('the lookout', () => {
  let memory: SharedArrayBuffer;
  let first: Lookout;
  let second: Lookout;

  beforeEach(() => {
    memory = allocateLookout();
    first = new Lookout(memory, 1);
    second = new Lookout(memory, 2);
  });

  /** Another thread that stays out of the way of the first one. */
  async function away(
    thread: number,
    relief: number,
  ): Promise<{ isBack: () => boolean; back: Promise<void> }> {
    const worker = new Worker(SCRIPT, { workerData: { memory, thread, relief } satisfies Task });
    await once(worker, 'message');
    let isBack = false;
    const back = once(worker, 'exit').then(() => {
      isBack = true;
    });
    return { isBack: () => isBack, back };
  }

  it('is one thread at a time', () => {
    expect(first.take()).to.equal(true);
    expect(first.take()).to.equal(true);
    expect(second.take()).to.equal(false);
    second.call();
    expect(second.take()).to.equal(false);
    first.call();
    expect(second.take()).to.equal(true);
    second.call();
    expect(first.take()).to.equal(true);
  });

  it('knows how long nobody had work, and whether somebody has', () => {
    expect(first.begin()).to.be.at.least(0);
    expect(second.begin()).to.equal(-1);
    first.end();
    second.end();
    const idle = first.begin();
    expect(idle).to.be.within(0, 10_000);
  });

  it('lets those who stay away come back when it calls', async () => {
    first.take();
    const others = await Promise.all([away(2, HOUR), away(3, HOUR)]);
    await setImmediate();
    expect(others.map(({ isBack }) => isBack())).to.deep.equal([false, false]);
    first.call();
    await Promise.all(others.map(({ back }) => back));
    expect(second.take()).to.equal(true);
  });

  it('is relieved by one of those who stay away when a request keeps it', async () => {
    first.take();
    const { back } = await away(2, 1);
    first.begin();
    await back;
    expect(first.take()).to.equal(false);
    expect(second.take()).to.equal(true);
  });

  it('keeps nobody away who need not be: when there is none, or it is the same thread', () => {
    first.stayAway();
    first.take();
    first.stayAway();
  });
});
