/**
 * Preloaded into a daemon (node --import): it is killed at the n-th call to /dev/fuse of its threads, which is before the
 * disk is ready. DYING_CALL is n.
 */
import { isMainThread } from 'node:worker_threads';
import { interceptTransfers } from '../support/host-calls.js';

let left = Number(process.env['DYING_CALL']);

interceptTransfers(({ length, position }, perform) => {
  if (!isMainThread && position === undefined && left-- === 0) process.kill(process.pid, 'SIGKILL');
  return perform(length);
});
