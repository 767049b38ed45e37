/**
 * read(2), write(2) and their kin for those who call them all the time. Called directly they take four fifths of what
 * node:fs takes, and make no objects. A call that fails is repeated through node:fs, which fails as well and says why.
 */
import fs from '../fs.js';
import { type Foreign, foreign } from './libc.js';
import { addressOf } from './memory.js';

/** Calls of a thread that go through node:fs, before loading koffi pays: a short life needs no more. */
const FIRST_CALLS = 64;
const FAILED = -1;

interface Calls {
  readonly read: Foreign;
  readonly write: Foreign;
  readonly pread: Foreign;
  readonly pwrite: Foreign;
  readonly poll: Foreign;
}

let calls: Calls | undefined;
let firstCalls = 0;

/** Undefined for the first calls of a thread. */
function direct(): Calls | undefined {
  if (calls === undefined && ++firstCalls > FIRST_CALLS) {
    // Addresses are plain numbers: koffi looks at nothing, and parts of buffers need no objects of their own.
    calls = {
      read: foreign('int64_t read(int fd, uint64_t target, uint64_t length)'),
      write: foreign('int64_t write(int fd, uint64_t source, uint64_t length)'),
      pread: foreign('int64_t pread(int fd, uint64_t target, uint64_t length, int64_t position)'),
      pwrite: foreign('int64_t pwrite(int fd, uint64_t source, uint64_t length, int64_t position)'),
      poll: foreign('int poll(uint64_t entries, uint64_t count, int timeout)'),
    };
  }
  return calls;
}

/**
 * pread(2), at most once.
 * @returns bytes read; fewer than `length` at the end of a file, 0 beyond it
 * @throws a system error
 */
export function readAt(fd: number, target: Uint8Array, at: number, length: number, position: number): number {
  refuseOverrun(target, at, length, position);
  const read = direct()?.pread(fd, addressOf(target, at), length, position) ?? FAILED;
  return read === FAILED ? fs.readSync(fd, target, at, length, position) : read;
}

/** pwrite(2), at most once. @returns bytes written. @throws a system error */
export function writeAt(
  fd: number,
  source: Uint8Array,
  at: number,
  length: number,
  position: number,
): number {
  refuseOverrun(source, at, length, position);
  const written = direct()?.pwrite(fd, addressOf(source, at), length, position) ?? FAILED;
  return written === FAILED ? fs.writeSync(fd, source, at, length, position) : written;
}

/** read(2) to the start of `target`. @returns bytes read. @throws a system error */
export function readNext(fd: number, target: Uint8Array): number {
  const read = direct()?.read(fd, addressOf(target, 0), target.length) ?? FAILED;
  return read === FAILED ? fs.readSync(fd, target, 0, target.length, null) : read;
}

/** As `readNext`, for a descriptor that does not block. @returns -1 for any failure: nothing is there, or nothing will be */
export function pollNext(fd: number, target: Uint8Array): number {
  return direct()?.read(fd, addressOf(target, 0), target.length) ?? FAILED;
}

/** struct pollfd { int fd; short events; short revents; } */
const entry = new ArrayBuffer(8);
const entryFd = new Int32Array(entry);
const entryEvents = new Int16Array(entry, 4);
const POLLIN = 1;

/** Whether read(2) would find something at once (poll(2)). False also where that cannot be told. */
export function isReadable(fd: number): boolean {
  entryFd[0] = fd;
  entryEvents[0] = POLLIN;
  return direct()?.poll(addressOf(entryFd, 0), 1, 0) === 1 && (entryEvents[1]! & POLLIN) !== 0;
}

/** write(2) from the start of `source`. @returns bytes written. @throws a system error */
export function writeNext(fd: number, source: Uint8Array, length: number): number {
  refuseOverrun(source, 0, length);
  const written = direct()?.write(fd, addressOf(source, 0), length) ?? FAILED;
  return written === FAILED ? fs.writeSync(fd, source, 0, length, null) : written;
}

/** What node:fs would take for the current position of the file, too. */
function refuseOverrun(bytes: Uint8Array, at: number, length: number, position = 0): void {
  if (position < 0) throw new RangeError(`there is no position ${position}`);
  if (at < 0 || length < 0 || at + length > bytes.length) {
    throw new RangeError(`${length} bytes at ${at} do not fit a buffer of ${bytes.length}`);
  }
}
