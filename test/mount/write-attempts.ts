/**
 * Every way to change a file or the directory around it, tried by a process that then tells how each was refused.
 *
 *     node write-attempts.js DISK OTHER [UID GID]
 *
 * OTHER is a file elsewhere that can be written. With UID and GID it becomes that user once all is loaded, so the
 * program itself may be in a place that this user cannot read.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { foreign } from '../../src/host/libc.js';

const { O_APPEND, O_CREAT, O_DIRECT, O_DIRECTORY, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = fs.constants;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;
const [PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE] = [1, 2, 1, 2];
const FS_IOC_SETFLAGS = 0x40086602;
const AT_FDCWD = -100;
const BLOCK = 4096;
const [disk, other, ...ids] = process.argv.slice(2);
/** The owner that the attempts ask for: the user itself. The kernel refuses any other without asking the mount. */
const [user, group] = ids.length === 0 ? [65534, 65534] : ids.map(Number);
const koffi = createRequire(import.meta.url)('koffi') as {
  errno(): number;
  os: { errno: Record<string, number> };
};

const mmap = foreign(
  'int64_t mmap(int64_t at, uint64_t length, int prot, int flags, int fd, int64_t offset)',
);
const mprotect = foreign('int mprotect(int64_t at, uint64_t length, int prot)');
const munmap = foreign('int munmap(int64_t at, uint64_t length)');
const fallocate = foreign('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const copyFileRange = foreign(
  'int64_t copy_file_range(int from, void *a, int to, void *b, uint64_t length, int flags)',
);
const sendfile = foreign('int64_t sendfile(int to, int from, void *at, uint64_t length)');
const splice = foreign('int64_t splice(int from, void *a, int to, void *b, uint64_t length, int flags)');
const setxattr = foreign(
  'int setxattr(const char *path, const char *name, const char *value, uint64_t size, int flags)',
);
const removexattr = foreign('int removexattr(const char *path, const char *name)');
const mknod = foreign('int mknod(const char *path, int mode, uint64_t device)');
const renameat2 = foreign('int renameat2(int a, const char *from, int b, const char *to, int flags)');
const ioctl = foreign('int ioctl(int fd, unsigned long request, void *argument)');
const pipe = foreign('int pipe(void *pair)');

/** As Node reports a failure of its own. */
function must(result: number): number {
  if (result !== -1) return result;
  const errno = koffi.errno();
  const code = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  throw Object.assign(new Error(code), { code });
}

export type Outcome = readonly [what: string, refusal: string];

function attemptAll(disk: string, other: string): Outcome[] {
  const dir = path.dirname(disk);
  const inDir = path.join(dir, 'other');
  const fd = fs.openSync(disk, O_RDONLY);
  const source = fs.openSync(other, O_RDWR);
  const pair = new Int32Array(2);
  must(pipe(pair));
  fs.writeSync(pair[1]!, Buffer.alloc(512));
  const open = (flags: number, name = disk) => fs.closeSync(fs.openSync(name, flags));
  const all: (readonly [what: string, change: () => unknown])[] = [
    ['O_RDWR', () => open(O_RDWR)],
    ['O_WRONLY', () => open(O_WRONLY)],
    ['O_WRONLY | O_APPEND', () => open(O_WRONLY | O_APPEND)],
    ['O_RDWR | O_DIRECT', () => open(O_RDWR | O_DIRECT)],
    ['O_RDONLY | O_TRUNC', () => open(O_RDONLY | O_TRUNC)],
    ['O_WRONLY | O_TRUNC | O_CREAT', () => open(O_WRONLY | O_TRUNC | O_CREAT)],
    ['O_RDWR by /proc/self/fd', () => open(O_RDWR, `/proc/self/fd/${fd}`)],
    ['O_WRONLY by /dev/fd', () => open(O_WRONLY, `/dev/fd/${fd}`)],
    ['O_TRUNC by /proc/self/fd', () => open(O_RDONLY | O_TRUNC, `/proc/self/fd/${fd}`)],
    ['write', () => fs.writeSync(fd, Buffer.alloc(512))],
    ['pwrite', () => fs.writeSync(fd, Buffer.alloc(512), 0, 512, BLOCK)],
    ['truncate to less', () => fs.truncateSync(disk, 512)],
    ['truncate to more', () => fs.truncateSync(disk, 2 ** 40)],
    ['ftruncate', () => fs.ftruncateSync(fd, 512)],
    ...[0x00, 0x01, 0x03, 0x10, 0x11, 0x08, 0x20, 0x41].map(
      (mode) => [`fallocate of mode ${mode}`, () => must(fallocate(fd, mode, 0, BLOCK))] as const,
    ),
    ['a shared, writable map', () => must(mmap(0, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0))],
    ['a shared map made writable', () => makeWritable(fd)],
    ['copy_file_range', () => must(copyFileRange(source, null, fd, null, BLOCK, 0))],
    ['sendfile', () => must(sendfile(fd, source, null, BLOCK))],
    ['splice', () => must(splice(pair[0]!, null, fd, null, 512, 0))],
    ['chmod', () => fs.chmodSync(disk, 0o666)],
    ['fchmod', () => fs.fchmodSync(fd, 0o666)],
    ['chown', () => fs.chownSync(disk, user!, group!)],
    ['fchown', () => fs.fchownSync(fd, user!, group!)],
    ['utimes', () => fs.utimesSync(disk, 1, 1)],
    ['futimes', () => fs.futimesSync(fd, 1, 1)],
    ['setxattr', () => must(setxattr(disk, 'user.x', 'y', 1, 0))],
    ['removexattr', () => must(removexattr(disk, 'user.x'))],
    ['an attribute of ext4', () => must(ioctl(fd, FS_IOC_SETFLAGS, new Int32Array([0x10])))],
    ['link away', () => fs.linkSync(disk, `${other}.link`)],
    ['rename away', () => fs.renameSync(disk, `${other}.renamed`)],
    ['unlink', () => fs.unlinkSync(disk)],
    ['rename over it', () => fs.renameSync(other, disk)],
    ['exchange', () => must(renameat2(AT_FDCWD, disk, AT_FDCWD, other, 2))],
  ];
  const inDirectory: typeof all = [
    ['link', () => fs.linkSync(disk, inDir)],
    ['rename', () => fs.renameSync(disk, inDir)],
    ['rename in', () => fs.renameSync(other, inDir)],
    ['symlink', () => fs.symlinkSync('x', inDir)],
    ['mkdir', () => fs.mkdirSync(inDir)],
    ['create', () => open(O_CREAT | O_WRONLY, inDir)],
    ['O_TMPFILE', () => open(O_TMPFILE | O_RDWR, dir)],
    ['a FIFO', () => must(mknod(inDir, 0o010644, 0))],
    ['a device', () => must(mknod(inDir, 0o020644, 0x103))],
    ['chmod of the directory', () => fs.chmodSync(dir, 0o777)],
    ['utimes of the directory', () => fs.utimesSync(dir, 1, 1)],
  ];
  const tried = fs.statSync(dir).dev === fs.statSync(disk).dev ? [...all, ...inDirectory] : all;
  const outcomes = tried.map(([what, change]): Outcome => [what, refusalOf(change)]);
  writeToPrivateMap(fd);
  return outcomes;
}

function makeWritable(fd: number): void {
  const at = must(mmap(0, BLOCK, PROT_READ, MAP_SHARED, fd, 0));
  try {
    must(mprotect(at, BLOCK, PROT_WRITE));
  } finally {
    munmap(at, BLOCK);
  }
}

/** Allowed, and seen by nobody else. */
function writeToPrivateMap(fd: number): void {
  const at = must(mmap(0, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  foreign('void *memset(int64_t at, int byte, uint64_t length)')(at, 0x5a, BLOCK);
  munmap(at, BLOCK);
}

function refusalOf(change: () => unknown): string {
  try {
    change();
    return 'nothing';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

if (ids.length > 0) {
  process.setgroups!([]);
  process.setgid!(group!);
  process.setuid!(user!);
}
process.stdout.write(JSON.stringify(attemptAll(disk!, other!)));
