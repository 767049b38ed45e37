/** The service manager that started this program, if one did: sd_notify(3), the protocol of systemd. */

import { printable } from '../printable.js';
import { foreign } from './libc.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

let address: Uint8Array | undefined;

/** To be called once, early: children of this process must not speak for it. */
export function findServiceManager(): void {
  const socket = process.env['NOTIFY_SOCKET'];
  delete process.env['NOTIFY_SOCKET'];
  if (socket === undefined || !/^[/@]/.test(socket)) return;
  // A name that begins with @ stands for one that begins with NUL (unix(7)).
  address = Buffer.concat([Uint16Array.of(AF_UNIX), Buffer.from(socket.replace(/^@/, '\0'))].map(bytesOf));
}

/**
 * Tells it how things stand.
 * @param variables as in `READY=1`. Where nobody listens, they are lost.
 */
export function notifyServiceManager(...variables: string[]): void {
  if (address === undefined) return;
  const message = Buffer.from(variables.map(printable).join('\n'));
  const fd = foreign('int socket(int domain, int type, int protocol)')(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const send = foreign(
    'int64_t sendto(int fd, const void *bytes, size_t length, int flags, const void *address, unsigned int size)',
  );
  send(fd, message, message.length, MSG_NOSIGNAL, address, address.length);
  foreign('int close(int fd)')(fd);
}

function bytesOf(array: Uint8Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
