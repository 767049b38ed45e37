/** Access control lists of files (acl(5)), in the form that the kernel keeps: the extended attribute of that name. */
import { errnoName } from '../errors.js';
import { foreign, systemError } from './libc.js';

const ATTRIBUTE = 'system.posix_acl_access';
/** XATTR_SIZE_MAX of Linux. */
const MAX_BYTES = 65536;
/** None, or a file system that has none. */
const ABSENT: ReadonlySet<string | undefined> = new Set(['ENODATA', 'EOPNOTSUPP', 'ENOTSUP']);

/**
 * @returns undefined for a file without one: its permission bits say all
 * @throws a system error
 */
export function readAcl(path: string): Buffer | undefined {
  if (process.platform !== 'linux') return undefined;
  const bytes = Buffer.alloc(MAX_BYTES);
  const get = foreign('int64_t getxattr(const char *path, const char *name, void *value, size_t size)');
  const length = get(path, ATTRIBUTE, bytes, bytes.length);
  return length < 0 ? unlessAbsent('getxattr') : bytes.subarray(0, length);
}

/** @param acl as `readAcl` gives it. @throws a system error */
export function writeAcl(path: string, acl: Buffer | undefined): void {
  if (process.platform !== 'linux') return;
  if (acl === undefined) {
    if (foreign('int removexattr(const char *path, const char *name)')(path, ATTRIBUTE) < 0)
      unlessAbsent('removexattr');
    return;
  }
  const set = foreign(
    'int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
  );
  if (set(path, ATTRIBUTE, acl, acl.length, 0) < 0) throw systemError('setxattr');
}

function unlessAbsent(call: string): undefined {
  const error = systemError(call);
  if (!ABSENT.has(errnoName(error))) throw error;
}
