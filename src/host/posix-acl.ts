/** Access control lists of files (acl(5)), in the form that the kernel keeps: the extended attribute of that name. */

import { errnoName } from '../errors.js';
import type { Stats } from '../fs.js';
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

/** Permissions as bits: 4 to read, 2 to write, 1 to search or execute. */
interface Entry {
  readonly id: number;
  readonly permissions: number;
}

/** Who may do what with a file, any mask applied. The first user and the first group are those of the file. */
export interface AccessList {
  readonly users: readonly Entry[];
  readonly groups: readonly Entry[];
  readonly others: number;
}

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
/** <linux/posix_acl.h> */
const Tag = { userOfFile: 1, user: 2, groupOfFile: 4, group: 8, mask: 16, others: 32 } as const;

/** From the list that the file has, or else from its permission bits. @throws a system error, or Error for an unknown list */
export function accessListOf(path: string, { uid, gid, mode }: Stats): AccessList {
  const acl = readAcl(path);
  if (acl === undefined) {
    const [user, group, others] = [(mode >> 6) & 7, (mode >> 3) & 7, mode & 7];
    return { users: [{ id: uid, permissions: user }], groups: [{ id: gid, permissions: group }], others };
  }
  if (acl.readUInt32LE() !== VERSION) throw new Error('an access control list of another version');
  const of = (wanted: number, mask: number, idOfFile?: number): Entry[] => {
    const found: Entry[] = [];
    for (let at = HEADER_BYTES; at < acl.length; at += ENTRY_BYTES) {
      if (acl.readUInt16LE(at) !== wanted) continue;
      found.push({ id: idOfFile ?? acl.readUInt32LE(at + 4), permissions: acl.readUInt16LE(at + 2) & mask });
    }
    return found;
  };
  const mask = of(Tag.mask, 7)[0]?.permissions ?? 7;
  return {
    // The entry of the file's user comes first for him.
    users: [...of(Tag.userOfFile, 7, uid), ...of(Tag.user, mask).filter(({ id }) => id !== uid)],
    groups: [...of(Tag.groupOfFile, mask, gid), ...of(Tag.group, mask)],
    others: of(Tag.others, 7)[0]?.permissions ?? 0,
  };
}
