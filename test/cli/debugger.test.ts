/** The debugger of Node.js, which would let everybody on the machine run code in a process that has keys. */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, TiB } from '../support/images.js';
import { openFilesOf } from '../support/processes.js';
import { BIN } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

/** Sockets of the process that wait for connections (proc_pid_net(5), state 0A). */
function listening(pid: number): string[] {
  const sockets = new Set(openFilesOf(pid).values());
  const lines = ['tcp', 'tcp6'].flatMap((table) => fs.readFileSync(`/proc/net/${table}`, 'utf8').split('\n'));
  return lines
    .map((line) => line.trim().split(/ +/))
    .filter((words) => words[3] === '0A' && sockets.has(`socket:[${words[9]}]`))
    .map((words) => words[1]!);
}

describe('SIGUSR1 while the program starts', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const command of [[BIN], ['node', BIN]]) {
    it(`leaves no debugger open in ${command.join(' ')}`, async () => {
      const large = imagePath(createImage(scratch.subdir(), { size: TiB }));
      // Too early a signal ends the process, and too late a one opens nothing.
      for (let after = 0; after < 1500; after += 10) {
        const { child, said } = start([...command, 'hash', large]);
        await delay(after);
        await waitUntil('it has ended, or answers', () => {
          child.kill('SIGUSR1');
          return child.signalCode !== null || /hashing/.test(said());
        });
        const isOpened = said().includes('Debugger listening');
        if (child.signalCode === null) {
          await waitUntil('nobody can connect', () => listening(child.pid!).length === 0);
        }
        const hasPassed = isOpened && child.signalCode === null;
        child.kill('SIGKILL');
        if (hasPassed) return;
      }
      throw new Error('no signal came while Node.js would have opened a debugger');
    });
  }

  function start([file, ...args]: readonly string[]): { child: ChildProcess; said: () => string } {
    const child = spawn(file!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    defer(() => child.kill('SIGKILL'));
    let text = '';
    child.stderr!.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    return { child, said: () => text };
  }
});
