/**
 * A daemon whose disk stays in use and whose connection cannot be aborted, as on a host without fusectl. Prints what it
 * is told to do.
 *
 *     node stopped-process.js flush|fail|early
 *
 * With `early` it is stopped before its disk is mounted, and the disk is not in use.
 */
import fs from 'node:fs';
import { StopOnSignal } from '../../../src/daemon/stop.js';
import { Qcow2fsError } from '../../../src/errors.js';

const say = (text: string): void => void fs.writeSync(1, `${text}\n`);

const [, , mode] = process.argv;
const stop = new StopOnSignal('image.qcow2');

function mounted(): void {
  stop.mounted(
    {
      device: '0:0',
      ended: new Promise(() => {}),
      unmount(lazy) {
        say(lazy ? 'detach' : 'unmount');
        if (!lazy && mode !== 'early') throw new Qcow2fsError('mountpoint', 'busy');
      },
      abort: () => say('abort'),
    },
    {
      flush() {
        say('flush');
        if (mode === 'fail')
          throw new Qcow2fsError('host-io', 'image.qcow2: write failed at 0x0, no space left');
      },
      async release() {},
    },
  );
}

if (mode === 'early') {
  // Behind the listener of `stop`.
  const waiting = setInterval(() => {}, 1000);
  process.once('SIGTERM', () => {
    clearInterval(waiting);
    mounted();
  });
  process.kill(process.pid, 'SIGTERM');
} else {
  mounted();
  setInterval(() => {}, 1000);
  say('ready');
}
