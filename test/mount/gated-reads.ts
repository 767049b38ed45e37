/**
 * Preloaded into a daemon (node --import): while the file GATE exists, what is read of files waits, and GATE.waiting
 * tells that something does.
 */
import fs from 'node:fs';
import { interceptTransfers } from '../support/host-calls.js';

const POLL_MS = 5;
const gate = process.env['GATE'] ?? '';
const clock = new Int32Array(new SharedArrayBuffer(4));

interceptTransfers(({ direction, length, position }, perform) => {
  if (direction === 'read' && position !== undefined && fs.existsSync(gate)) {
    fs.closeSync(fs.openSync(`${gate}.waiting`, 'a'));
    while (fs.existsSync(gate)) Atomics.wait(clock, 0, 0, POLL_MS);
  }
  return perform(length);
});
