/** Keeps keys in the memory of this process, as far as it may: out of core dumps, swap space and other processes. */
import { foreignIfPresent } from './libc.js';
import { addressOf } from './memory.js';

const PR_SET_DUMPABLE = 4;

/**
 * From now on the process leaves no core dump, and only root may look into it (prctl(2), PR_SET_DUMPABLE). Node's
 * debugger is the business of cli/main.ts.
 */
export function keepMemoryPrivate(): void {
  if (process.platform !== 'linux') return;
  foreignIfPresent(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  )?.(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/** A copy of a key that all threads share, and that stays out of swap space where RLIMIT_MEMLOCK permits that (mlock(2)). */
export function sharedKey(key: Uint8Array): Uint8Array {
  const shared = new Uint8Array(new SharedArrayBuffer(key.length));
  shared.set(key);
  foreignIfPresent('int mlock(uint64_t address, size_t length)')?.(addressOf(shared, 0), shared.length);
  return shared;
}
