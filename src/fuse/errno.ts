/** What a program that uses the mount sees of an error: errno values (errno(3)), which not all systems number alike. */
import { constants } from 'node:os';
import { type ErrorKind, errnoName, Qcow2fsError } from '../errors.js';

export const Errno = constants.errno;

const ERRNO_OF_KIND: Readonly<Partial<Record<ErrorKind, number>>> = {
  'read-only': Errno.EROFS,
  'no-space': Errno.ENOSPC,
  'fixed-size': Errno.EPERM,
  'too-large': Errno.EFBIG,
  usage: Errno.EINVAL,
};

/** What a full or limited host says, the writer is told. */
const ERRNO_OF_HOST: Readonly<Record<string, number>> = {
  ENOSPC: Errno.ENOSPC,
  EDQUOT: Errno.ENOSPC,
  EFBIG: Errno.EFBIG,
};

export function errnoOf(error: unknown): number {
  // A size or an offset beyond 2^53 - 1.
  if (error instanceof RangeError) return Errno.EFBIG;
  if (!(error instanceof Qcow2fsError)) return Errno.EIO;
  if (error.kind === 'host-io') return ERRNO_OF_HOST[errnoName(error.cause) ?? ''] ?? Errno.EIO;
  return ERRNO_OF_KIND[error.kind] ?? Errno.EIO;
}
