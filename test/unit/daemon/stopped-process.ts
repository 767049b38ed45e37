/**
 * A daemon whose disk stays in use and whose connection cannot be aborted, as on a host without fusectl. Prints what it
 * is told to do.
 *
 *     node stopped-process.js flush|fail
 */
import fs from 'node:fs';
import { StopOnSignal } from '../../../src/daemon/stop.js';
import { Qcow2fsError } from '../../../src/errors.js';

const say = (text: string): void => void fs.writeSync(1, `${text}\n`);

const stop = new StopOnSignal('image.qcow2');
stop.mounted(
  {
    device: '0:0',
    ended: new Promise(() => {}),
    unmount(lazy) {
      say(lazy ? 'detach' : 'unmount');
      if (!lazy) throw new Qcow2fsError('mountpoint', 'busy');
    },
    abort: () => say('abort'),
  },
  {
    flush() {
      say('flush');
      if (process.argv[2] === 'fail')
        throw new Qcow2fsError('host-io', 'image.qcow2: write failed at 0x0, no space left');
    },
    async release() {},
  },
);
setInterval(() => {}, 1000);
say('ready');
