/** Exit statuses: a published contract, listed in qcow2fs(1). */
import type { ErrorKind } from '../errors.js';

export const EXIT_SUCCESS = 0;
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
export const EXIT_DAMAGED = 4;
export const EXIT_LEAKS = 13;
export const EXIT_DIFFERS = 14;

/** Ends a command of which everything is said already. */
export class CommandEnd extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`ended with status ${status}`);
    this.status = status;
  }
}

/** What people are told, by status. No command ends with 11: a disk that is read-only refuses writes, not mounts. */
export const EXIT_MEANINGS: Readonly<Record<number, string>> = {
  0: 'success',
  1: 'an internal error',
  2: 'a command line that makes no sense',
  3: 'a file of the host cannot be opened, read or written',
  4: 'not a qcow2 image, or a damaged one',
  5: 'the image uses something that this version does not know',
  6: 'a file that the image names is missing, not allowed, recursive or of an undeclared format',
  7: 'the secret is missing, wrong or not wanted',
  8: 'no such snapshot',
  9: 'the mountpoint is missing, busy, not empty or already mounted',
  10: 'the host has no usable FUSE',
  12: 'another process uses the image',
  13: '`check`: clusters have leaked, and nothing is worse',
  14: '`hash --verify`: the disk is not what it was',
};

export const EXIT_STATUS: Readonly<Record<ErrorKind, number>> = {
  internal: EXIT_FAILURE,
  usage: EXIT_USAGE,
  'host-io': 3,
  format: EXIT_DAMAGED,
  corrupt: EXIT_DAMAGED,
  unsupported: 5,
  'named-file': 6,
  secret: 7,
  snapshot: 8,
  mountpoint: 9,
  fuse: 10,
  'read-only': 11,
  locked: 12,
  'no-space': 3,
  'fixed-size': 11,
  'too-large': 5,
};
