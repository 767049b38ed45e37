/** A lock on all bytes of a file for its holder alone, which keeps every reader out that asks for locks. */
import fs from 'node:fs';
import { foreign } from '../../src/host/libc.js';

const F_OFD_SETLK = 37;
const F_WRLCK = 1;

/** @returns the descriptor that holds it */
export function lockForItself(file: string): number {
  const fd = fs.openSync(file, 'r+');
  const everything = Buffer.alloc(32);
  everything.writeInt16LE(F_WRLCK, 0);
  const fcntl = foreign('int fcntl(int fd, int command, ...)');
  if (fcntl(fd, F_OFD_SETLK, 'void *', everything) !== 0) throw new Error(`${file} cannot be locked`);
  return fd;
}
