/** The loop of a thread that serves /dev/fuse: one request, one reply, until the file system is unmounted. */
import { FuseDevice, type IdleWork, UNMOUNTED } from './device.js';
import { type Dispatcher, REPLY_BYTES, REQUEST_BYTES } from './dispatch.js';
import type { Lookout } from './lookout.js';

/** The memory of a serving thread. */
export interface Buffers {
  readonly request: Buffer;
  readonly reply: Buffer;
}

/** To be called while it may still fail: before the mount is made. */
export function allocateBuffers(): Buffers {
  return { request: Buffer.alloc(REQUEST_BYTES), reply: Buffer.alloc(REPLY_BYTES) };
}

/**
 * Told of a reply that has to wait until the kernel knows the modification time; whoever is told sends it.
 * @param fd where it goes
 */
export type DeferredReplyListener = (fd: number, reply: Uint8Array) => void;

/**
 * Returns when the file system is unmounted or its connection aborted.
 * @param fd /dev/fuse, blocking
 * @param idleWork done while there is no request
 */
export function serve(
  fd: number,
  buffers: Buffers,
  lookout: Lookout,
  dispatcher: Dispatcher,
  idleWork: IdleWork,
  onDeferredReply: DeferredReplyListener,
): void {
  const { request, reply } = buffers;
  const device = new FuseDevice(fd, request, lookout, idleWork);
  try {
    for (let length = device.receive(); length !== UNMOUNTED; length = device.receive()) {
      const replied = dispatcher.dispatch(request, length, reply);
      if (replied === 0) continue;
      if (dispatcher.awaitsTime) onDeferredReply(device.leave(), reply.slice(0, replied));
      else device.send(reply, replied);
    }
  } finally {
    device.close();
  }
}
