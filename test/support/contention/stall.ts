/** Holds up threads at random, so that others overtake them in the middle of things. */
import type { Random } from '../random-guest.js';

/** Milliseconds at most. */
const SHORT = 1.5;
/** Enough for others to free a cluster and to use it again. */
const LONG = 60;

/** Of the moments at which a thread may be held up: those at which it is, and those at which that takes long. */
export interface Shares {
  readonly all: number;
  readonly long: number;
}

export const SELDOM: Shares = { all: 0.06, long: 0.001 };
/** For who holds no lock that others wait for. */
export const OFTEN: Shares = { all: 0.1, long: 0.05 };

/** Nobody ever wakes who waits here. */
const nowhere = new Int32Array(new SharedArrayBuffer(4));

export function stall(random: Random, { all, long }: Shares): void {
  const dice = random();
  if (dice < all) Atomics.wait(nowhere, 0, 0, random() * (dice < long ? LONG : SHORT));
}
