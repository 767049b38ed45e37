/** Exit statuses: a published contract, listed in README.md. */
import type { ErrorKind } from '../errors.js';

export const EXIT_SUCCESS = 0;
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

/** Ends a command of which everything is said already. */
export class CommandEnd extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`ended with status ${status}`);
    this.status = status;
  }
}

export const EXIT_STATUS: Readonly<Record<ErrorKind, number>> = {
  internal: EXIT_FAILURE,
  usage: EXIT_USAGE,
  'host-io': 3,
  format: 4,
  corrupt: 4,
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
