/**
 * The one error class of qcow2fs. A message is one line that says what is wrong, where, and what to do next.
 * The two borders derive their numbers from `kind`: the errno a program sees in fuse/errno.ts, the exit status
 * a user sees in cli/exit-status.ts.
 */

import { printable } from './printable.js';

export type ErrorKind =
  /** The command line asks for something that makes no sense. */
  | 'usage'
  /** The host refuses to open or read a file. */
  | 'host-io'
  /** Not a qcow2 image at all, or a header or table beyond what the format allows. */
  | 'format'
  /** A valid image that uses something this version does not know. */
  | 'unsupported'
  /** A structure inside the image is damaged; the rest stays readable. */
  | 'corrupt'
  /** A file that the image names (backing or data file) is missing, forbidden, recursive or ambiguous. */
  | 'named-file'
  /** The secret is missing, wrong or not wanted. */
  | 'secret'
  /** The image has no such snapshot. */
  | 'snapshot'
  /** The mountpoint is missing, busy, not empty or already mounted. */
  | 'mountpoint'
  /** The host has no usable FUSE. */
  | 'fuse'
  /** The disk is read-only. */
  | 'read-only'
  /** Another process uses the image in a way that does not go with this one. */
  | 'locked'
  /** There is no room: beyond the end of the disk, or in what holds the image. */
  | 'no-space'
  /** The disk keeps its size. */
  | 'fixed-size'
  /** The image cannot describe a disk of that size. */
  | 'too-large'
  /** A bug. */
  | 'internal';

/** What survives `structuredClone` between processes and threads. */
export interface ErrorRecord {
  readonly kind: ErrorKind;
  readonly message: string;
}

/** What an image brings into a message, such as the ID of a snapshot, may have 64 KiB. */
const MAX_MESSAGE = 8192;

export class Qcow2fsError extends Error {
  override readonly name = 'Qcow2fsError';
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(shortened(printable(message)), options);
    this.kind = kind;
  }
}

/** The beginning says where and what, the end what to do next. */
function shortened(message: string): string {
  if (message.length <= MAX_MESSAGE) return message;
  const half = MAX_MESSAGE / 2 - 3;
  return `${message.slice(0, half)} ... ${message.slice(-half)}`;
}

/** A host error as one line, without the call and path that Node appends: `ENOENT: no such file or directory`. */
export function hostReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return printable((message.split(/[,\n]/, 1)[0] ?? message).trim());
}

/** The `code` of a Node system error (`'ENOENT'`), or undefined. */
export function errnoName(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

export function toErrorRecord(error: unknown): ErrorRecord {
  if (error instanceof Qcow2fsError) return { kind: error.kind, message: error.message };
  return { kind: 'internal', message: hostReason(error) };
}

export function fromErrorRecord(record: ErrorRecord): Qcow2fsError {
  return new Qcow2fsError(record.kind, record.message);
}
