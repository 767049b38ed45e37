/** The loop of a thread that serves /dev/fuse: one request, one reply, until the file system is unmounted. */
import { FuseDevice, type IdleWork, UNMOUNTED } from './device.js';
import { type Dispatcher, REPLY_BYTES, REQUEST_BYTES } from './dispatch.js';
import type { Lookout } from './lookout.js';

/**
 * Returns when the file system is unmounted or its connection aborted.
 * @param fd /dev/fuse, blocking
 * @param idleWork done while there is no request
 */
export function serve(fd: number, lookout: Lookout, dispatcher: Dispatcher, idleWork: IdleWork): void {
  const request = Buffer.alloc(REQUEST_BYTES);
  const reply = Buffer.alloc(REPLY_BYTES);
  const device = new FuseDevice(fd, request, lookout, idleWork);
  try {
    for (let length = device.receive(); length !== UNMOUNTED; length = device.receive()) {
      const replied = dispatcher.dispatch(request, length, reply);
      if (replied > 0) device.send(reply, replied);
    }
  } finally {
    device.close();
  }
}
