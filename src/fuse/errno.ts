/** What a program that uses the mount sees of an error: Linux errno values (errno(3)). */
import type { ErrorKind } from '../errors.js';
import { Qcow2fsError } from '../errors.js';

export const Errno = {
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EACCES: 13,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EROFS: 30,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
} as const;

const ERRNO_OF_KIND: Readonly<Partial<Record<ErrorKind, number>>> = {
  'read-only': Errno.EROFS,
  usage: Errno.EINVAL,
};

export function errnoOf(error: unknown): number {
  // A number beyond 2^53 - 1, which no request of a kernel carries.
  if (error instanceof RangeError) return Errno.EINVAL;
  return (error instanceof Qcow2fsError ? ERRNO_OF_KIND[error.kind] : undefined) ?? Errno.EIO;
}
