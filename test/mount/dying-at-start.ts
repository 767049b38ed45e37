/**
 * Preloaded into a daemon (node --import): it, or one of its threads, dies before the disk is ready.
 *
 *   DYING_CALL    at which call to /dev/fuse of a thread, from 0; `load`: before a thread has loaded
 *                 `mounted`: when the daemon first sees its mount
 *   DYING_THREAD  only the thread ends; otherwise the daemon is killed
 */
import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { interceptTransfers } from '../support/host-calls.js';

const { DYING_CALL: when, DYING_THREAD: onlyThread } = process.env;

function die(): void {
  if (onlyThread) process.exit(3);
  process.kill(process.pid, 'SIGKILL');
}

if (!isMainThread && when === 'load') die();
let left = Number(when);

interceptTransfers(({ length, position }, perform) => {
  if (!isMainThread && position === undefined && left-- === 0) die();
  return perform(length);
});

if (when === 'mounted') {
  const { readFileSync } = fs;
  Object.assign(fs, {
    readFileSync: (...args: Parameters<typeof readFileSync>) => {
      const content = readFileSync(...args);
      const ours = `${process.argv.at(-1)} `;
      if (args[0] === '/proc/self/mountinfo' && content.includes(ours)) die();
      return content;
    },
  });
}
