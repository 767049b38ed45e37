/** The loop of a thread that serves /dev/fuse: one blocking read, one reply, until the file system is unmounted. */
import fs from 'node:fs';
import { errnoName } from '../errors.js';
import { type Dispatcher, REPLY_BYTES, REQUEST_BYTES } from './dispatch.js';

/** Unmounted, or the connection was aborted. */
const ENDED: ReadonlySet<string | undefined> = new Set(['ENODEV', 'ECONNABORTED']);
/** A request that was interrupted before it was read, or whose caller went away before the reply. */
const HARMLESS: ReadonlySet<string | undefined> = new Set(['ENOENT', 'EINTR', 'EAGAIN']);

/**
 * Returns when the file system is unmounted or its connection aborted.
 * @param fd /dev/fuse, blocking
 */
export function serve(fd: number, dispatcher: Dispatcher): void {
  const request = Buffer.alloc(REQUEST_BYTES);
  const reply = Buffer.alloc(REPLY_BYTES);
  for (;;) {
    try {
      const length = fs.readSync(fd, request, 0, REQUEST_BYTES, null);
      const replied = dispatcher.dispatch(request, length, reply);
      if (replied > 0) fs.writeSync(fd, reply, 0, replied, null);
    } catch (error) {
      const code = errnoName(error);
      if (ENDED.has(code)) return;
      if (!HARMLESS.has(code)) throw error;
    }
  }
}
