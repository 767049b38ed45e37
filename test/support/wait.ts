/** Waiting for what another process does, without guessing how long it takes. */

import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 10;
const DEADLINE_MS = 60_000;

/** Waits until something is so; fails after a minute. */
export async function waitUntil(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await delay(POLL_MS);
  }
}
