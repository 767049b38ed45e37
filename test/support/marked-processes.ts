/** Finds whatever a test file has started, daemons included: all inherit a mark in their environment. */
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export const MARK = 'QCOW2FS_SUITE';
const POLL_MS = 50;
const PATIENCE_MS = 10_000;

/** Daemons unmount on SIGTERM; what does not end is killed. */
export async function endAll(mark: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of processesOf(mark)) {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended.
      }
    }
    const deadline = performance.now() + PATIENCE_MS;
    while (processesOf(mark).length > 0 && performance.now() < deadline) await delay(POLL_MS);
  }
}

/** What the threads of each marked process wait for: system call, and as root kernel stack; those alike as one. */
export function stacksOf(mark: string): string {
  const lines = processesOf(mark).flatMap((pid) => {
    const threads = new Map<string, string[]>();
    for (const thread of namesIn(`/proc/${pid}/task`)) {
      const place = `/proc/${pid}/task/${thread}`;
      const state = /^State:\s*(.*)$/m.exec(textOf(`${place}/status`))?.[1] ?? 'gone';
      const call = textOf(`${place}/syscall`).trim().split(' ')[0];
      const stack = textOf(`${place}/stack`).replaceAll(/^\[<0>\] /gm, '      ');
      const key = `${textOf(`${place}/comm`).trim()}, ${state}, system call ${call}\n${stack}`.trimEnd();
      threads.set(key, [...(threads.get(key) ?? []), thread]);
    }
    const command = textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
    return [
      `process ${pid}: ${command}`,
      ...[...threads].map(([key, names]) => `  ${names.join(' ')}: ${key}`),
    ];
  });
  return lines.join('\n');
}

function processesOf(mark: string): number[] {
  const word = `\0${MARK}=${mark}\0`;
  const pids = namesIn('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => `\0${textOf(`/proc/${pid}/environ`, 'latin1')}`.includes(word));
}

function namesIn(dir: string): string[] {
  try {
    return fs.readdirSync(dir);
  } catch {
    return [];
  }
}

/** Processes end at any time. */
function textOf(file: string, encoding: BufferEncoding = 'utf8'): string {
  try {
    return fs.readFileSync(file, encoding);
  } catch {
    return '';
  }
}
