/** Finds and ends whatever a test file has started, daemons in the background too: all inherit a mark in their environment. */
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export const MARK = 'QCOW2FS_SUITE';
const POLL_MS = 50;
const PATIENCE_MS = 10_000;

/** Daemons unmount when they are asked to; who does not listen is killed. */
export async function endAll(mark: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of processesOf(mark)) {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended meanwhile.
      }
    }
    const deadline = performance.now() + PATIENCE_MS;
    while (processesOf(mark).length > 0 && performance.now() < deadline) await delay(POLL_MS);
  }
}

function processesOf(mark: string): number[] {
  const word = `\0${MARK}=${mark}\0`;
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return `\0${fs.readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(word);
    } catch {
      return false;
    }
  });
}
