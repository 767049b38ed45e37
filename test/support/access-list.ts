/** Access control lists (acl(5)) as the kernel takes them: struct posix_acl_xattr_header and its entries. */
import { foreign } from '../../src/host/libc.js';

const VERSION = 2;
const NO_ID = 0xffffffff;
const Tag = { user: 1, users: 2, group: 4, groups: 8, mask: 16, other: 32 } as const;

/** Permissions, 0 to 7, of the owner, of users by number, of the group, of groups by number, and of all others. */
export interface AccessList {
  readonly user: number;
  readonly users?: Readonly<Record<number, number>>;
  readonly group: number;
  readonly groups?: Readonly<Record<number, number>>;
  readonly mask: number;
  readonly other: number;
}

function encoded({ user, users = {}, group, groups = {}, mask, other }: AccessList): Buffer {
  const named = (ids: Readonly<Record<number, number>>, tag: number): [number, number, number][] =>
    Object.entries(ids).map(([id, permissions]) => [tag, permissions, Number(id)]);
  const entries: [number, number, number][] = [
    [Tag.user, user, NO_ID],
    ...named(users, Tag.users),
    [Tag.group, group, NO_ID],
    ...named(groups, Tag.groups),
    [Tag.mask, mask, NO_ID],
    [Tag.other, other, NO_ID],
  ];
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(VERSION);
  entries.forEach(([tag, permissions, id], index) => {
    bytes.writeUInt16LE(tag, 4 + 8 * index);
    bytes.writeUInt16LE(permissions, 6 + 8 * index);
    bytes.writeUInt32LE(id, 8 + 8 * index);
  });
  return bytes;
}

/** @param kind `default`: what new files in a directory get */
export function setAccess(path: string, list: AccessList, kind: 'access' | 'default' = 'access'): void {
  const bytes = encoded(list);
  const set = foreign(
    'int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
  );
  if (set(path, `system.posix_acl_${kind}`, bytes, bytes.length, 0) !== 0)
    throw new Error(`${path}: setxattr failed`);
}
