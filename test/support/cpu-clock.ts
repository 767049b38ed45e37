/**
 * A processor clock that QEMU can rely on. It measures PBKDF2 before it makes a LUKS header or a key slot, and fails
 * with "Unable to get accurate CPU usage" when its clock stands still meanwhile, as the kernel's does now and then on
 * a busy virtual machine. The clock is fast, too: the measurement takes milliseconds instead of two seconds.
 */

import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './qcow2fs.js';
import { run } from './run.js';

const SOURCE = path.join(ROOT, 'test/support/cpu-clock.c');
const LIBRARY = path.join(ROOT, 'dist/test/support/cpu-clock.so');

let environment: NodeJS.ProcessEnv | undefined;

/** The environment of a qemu-img that has this clock. */
export function withCpuClock(): NodeJS.ProcessEnv {
  environment ??= { ...process.env, LD_PRELOAD: library() };
  return environment;
}

/** Compiles it when that was not done yet. Test files that run at the same time do not disturb each other. */
function library(): string {
  const made = fs.statSync(LIBRARY, { throwIfNoEntry: false });
  if (made !== undefined && made.mtimeMs >= fs.statSync(SOURCE).mtimeMs) return LIBRARY;
  const unfinished = `${LIBRARY}.${process.pid}`;
  run('cc', ['-shared', '-fPIC', '-O2', '-Wall', '-Werror', '-o', unfinished, SOURCE]);
  fs.renameSync(unfinished, LIBRARY);
  return LIBRARY;
}
