/**
 * The calls of the C library that Node lacks. The only importer of koffi; it is loaded at the first call, because
 * most threads never make one.
 */
import { createRequire } from 'node:module';
import { Qcow2fsError } from '../errors.js';
import { encodeName } from '../names.js';

type Koffi = typeof import('koffi');
export type Foreign = (...args: unknown[]) => number;

const SEEK_END = 2;
/** macOS numbers them the other way round. */
const [SEEK_DATA, SEEK_HOLE] = process.platform === 'darwin' ? [4, 3] : [3, 4];
const ENXIO = 6;

let koffi: Koffi | undefined;
const functions = new Map<string, Foreign>();
/** koffi closes a library that nobody holds any more. */
const libraries: unknown[] = [];

function loadKoffi(): Koffi {
  try {
    koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
    return koffi;
  } catch (error) {
    throw new Qcow2fsError('internal', `cannot load koffi: ${(error as Error).message}; reinstall qcow2fs`);
  }
}

/**
 * A function of the C library, or of another one that the process is linked with.
 * @param library the file of another library
 */
export function foreign(prototype: string, library: string | null = null): Foreign {
  const name = `${library}: ${prototype}`;
  let found = functions.get(name);
  if (found === undefined) {
    const loaded = loadKoffi().load(library);
    libraries.push(loaded);
    found = loaded.func(prototype) as Foreign;
    functions.set(name, found);
  }
  return found;
}

/** As `foreign`; undefined where there is no such function, or no such library. */
export function foreignIfPresent(prototype: string, library: string | null = null): Foreign | undefined {
  try {
    return foreign(prototype, library);
  } catch (error) {
    if (error instanceof Qcow2fsError) throw error;
    return undefined;
  }
}

/** Where the memory lies, for functions that take an address as a number. */
export function addressOfMemory(memory: ArrayBufferLike): number {
  return Number(loadKoffi().address(new Uint8Array(memory)));
}

/** A failed call as Node reports its own: with `code` ('EBUSY') and `errno`. */
export function systemError(call: string): NodeJS.ErrnoException {
  const library = loadKoffi();
  const errno = library.errno();
  const code = Object.entries(library.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  return Object.assign(new Error(`${code}, ${call}`), { errno, code, syscall: call });
}

/** Loads a shared library for good, so that what needs one of its name (its SONAME) finds it (dlopen(3)). */
export function loadLibrary(path: string): void {
  libraries.push(loadKoffi().load(path));
}

function seek(fd: number, position: number, whence: number): number {
  return foreign('int64_t lseek(int fd, int64_t offset, int whence)')(fd, position, whence);
}

/** Bytes of a file or block device. */
export function seekEnd(fd: number): number {
  const end = seek(fd, 0, SEEK_END);
  if (end < 0) throw systemError('lseek');
  return end;
}

/**
 * The first position at or after `position` that holds data, or undefined when only a hole follows. File systems
 * without holes answer `position`.
 */
export function seekData(fd: number, position: number): number | undefined {
  const found = seek(fd, position, SEEK_DATA);
  if (found >= 0) return found;
  return loadKoffi().errno() === ENXIO ? undefined : position;
}

/** The first position at or after `position` in a hole; the end of a file is one. */
export function seekHole(fd: number, position: number): number | undefined {
  const found = seek(fd, position, SEEK_HOLE);
  return found >= 0 ? found : undefined;
}

export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

/** @throws a system error; `ENOTSUP` where the system has no such call */
export function fallocate(fd: number, mode: number, position: number, length: number): void {
  const call = foreignIfPresent('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  if (call === undefined) throw Object.assign(new Error('ENOTSUP, fallocate'), { code: 'ENOTSUP' });
  if (call(fd, mode, position, length) !== 0) throw systemError('fallocate');
}

/** A path for a parameter of the type `const void *`: what koffi makes of a string is UTF-8. */
function cString(path: string): Buffer {
  return Buffer.concat([encodeName(path), Buffer.of(0)]);
}

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;

/** mount(2). @throws a system error */
export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  const call = foreign(
    'int mount(const void *source, const void *target, const char *type, unsigned long flags, const char *data)',
  );
  if (call(cString(source), cString(target), type, flags, data) !== 0) throw systemError('mount');
}

export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

/** umount2(2). @throws a system error */
export function unmount(target: string, flags: number): void {
  if (foreign('int umount2(const void *target, int flags)')(cString(target), flags) !== 0)
    throw systemError('umount2');
}

/** _IOR(229, 0, uint32_t) */
const FUSE_DEV_IOC_CLONE = 0x8004e500;

/** Makes `clone`, a fresh descriptor of /dev/fuse, serve the file system that `fd` serves. @throws a system error */
export function cloneFuseDevice(clone: number, fd: number): void {
  const ioctl = foreign('int ioctl(int fd, unsigned long request, ...)');
  if (ioctl(clone, FUSE_DEV_IOC_CLONE, 'void *', new Uint32Array([fd])) !== 0) throw systemError('ioctl');
}

/** Makes `onto` another descriptor of what `fd` has open (dup2(2)). @throws a system error */
export function redirect(fd: number, onto: number): void {
  if (foreign('int dup2(int fd, int onto)')(fd, onto) < 0) throw systemError('dup2');
}

const AT_FDCWD = -100;
/** What is cached suffices: a file system that hangs is not asked. */
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_BYTES = 256;
const STATX_DEVICE = 136;

/**
 * The file system of a file (statx(2)), `major:minor` as in the mount table, without a request to it: nothing else is
 * asked for, and nothing is looked up behind a link of /proc. Undefined where it cannot be told.
 */
export function deviceOf(path: string): string | undefined {
  const statx = foreignIfPresent(
    'int statx(int dir, const char *path, int flags, uint32_t mask, void *buffer)',
  );
  const buffer = Buffer.alloc(STATX_BYTES);
  if (statx?.(AT_FDCWD, path, AT_STATX_DONT_SYNC, 0, buffer) !== 0) return undefined;
  return `${buffer.readUInt32LE(STATX_DEVICE)}:${buffer.readUInt32LE(STATX_DEVICE + 4)}`;
}

const STATX_MNT_ID_UNIQUE = 0x4000;
const STATX_MNT_ID = 144;

/** The ID of the mount of a file that no other mount ever has; undefined before Linux 6.8. Sends no request. */
export function uniqueMountIdOf(path: string): string | undefined {
  const statx = foreignIfPresent(
    'int statx(int dir, const char *path, int flags, uint32_t mask, void *buffer)',
  );
  const buffer = Buffer.alloc(STATX_BYTES);
  if (statx?.(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, buffer) !== 0) return undefined;
  const isTold = (buffer.readUInt32LE(0) & STATX_MNT_ID_UNIQUE) !== 0;
  return isTold ? String(buffer.readBigUInt64LE(STATX_MNT_ID)) : undefined;
}

const F_SETFD = 2;
const F_DUPFD_CLOEXEC = 1030;
const FD_CLOEXEC = 1;
/** Above the standard descriptors. */
const FIRST_FD = 3;

function control(fd: number, command: number, argument: number): number {
  const fcntl = foreign('int fcntl(int fd, int command, ...)');
  const result = fcntl(fd, command, 'int', argument);
  if (result < 0) throw systemError('fcntl');
  return result;
}

/** Another descriptor of what `fd` has open; programs that are started do not get it. @throws a system error */
export function duplicate(fd: number): number {
  return control(fd, F_DUPFD_CLOEXEC, FIRST_FD);
}

/** Programs that are started do not get this descriptor. @throws a system error */
export function keepFromChildren(fd: number): void {
  control(fd, F_SETFD, FD_CLOEXEC);
}

/**
 * Ends the process as exit_group(2) does it. `process.exit` waits for all threads, and one that waits for a request of
 * /dev/fuse does not end before its file system does.
 */
export function exitAtOnce(status: number): never {
  try {
    foreign('void _exit(int status)')(status);
  } finally {
    process.kill(process.pid, 'SIGKILL');
  }
  throw new Error('a killed process goes on');
}

/** Leaves the terminal and its process group, unless the process leads one (setsid(2)). */
export function leaveSession(): void {
  foreign('int setsid()')();
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/** A pair of connected stream sockets. @throws a system error */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  const call = foreign('int socketpair(int domain, int type, int protocol, void *pair)');
  if (call(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) throw systemError('socketpair');
  return [pair[0]!, pair[1]!];
}

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** struct cmsghdr { size_t len; int level; int type; } with one int behind it, and the padding to 8. */
const CMSG_BYTES = 24;

/**
 * Receives one file descriptor (unix(7), SCM_RIGHTS).
 * @returns undefined when the peer closed the socket without sending one
 * @throws a system error
 */
export function receiveDescriptor(socket: number): number | undefined {
  const library = loadKoffi();
  const iovec = library.struct({ base: 'void *', length: 'size_t' });
  const msghdr = library.struct({
    name: 'void *',
    nameLength: 'uint32_t',
    iov: library.pointer(iovec),
    iovLength: 'size_t',
    control: 'void *',
    controlLength: 'size_t',
    flags: 'int',
  });
  const recvmsg = library
    .load(null)
    .func('recvmsg', 'int64_t', ['int', library.inout(library.pointer(msghdr)), 'int']) as Foreign;
  const payload = Buffer.alloc(1);
  const control = Buffer.alloc(CMSG_BYTES);
  const message = {
    name: null,
    nameLength: 0,
    iov: { base: payload, length: payload.length },
    iovLength: 1,
    control,
    controlLength: control.length,
    flags: 0,
  };
  const received = recvmsg(socket, message, MSG_CMSG_CLOEXEC);
  if (received < 0) throw systemError('recvmsg');
  const isRights = control.readInt32LE(8) === SOL_SOCKET && control.readInt32LE(12) === SCM_RIGHTS;
  return received > 0 && isRights ? control.readInt32LE(16) : undefined;
}

/** Commands and lock types of fcntl(2) on Linux. */
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/**
 * struct flock of 64-bit Linux, in the machine's byte order:
 * { short type; short whence; int64 start; int64 length; int pid; }, the integers aligned. The process of a request
 * about locks of open file descriptions must be 0, and the whence SEEK_SET is 0 too.
 */
function flock(type: number, position: number, length: number): Uint8Array {
  const memory = new ArrayBuffer(32);
  new Int16Array(memory)[0] = type;
  new BigInt64Array(memory).set([BigInt(position), BigInt(length)], 1);
  return new Uint8Array(memory);
}

function lockCommand(fd: number, command: number, lock: Uint8Array): void {
  const fcntl = foreign('int fcntl(int fd, int command, ...)');
  if (fcntl(fd, command, 'void *', lock) !== 0) throw systemError('fcntl');
}

/**
 * Takes a shared lock that belongs to the open file description: other descriptors of the file, in this process or
 * others, see it, and it ends when the last duplicate of `fd` is closed.
 *
 * @throws a system error; `EAGAIN` or `EACCES` when somebody holds an exclusive lock there
 */
export function shareBytes(fd: number, position: number, length: number): void {
  lockCommand(fd, F_OFD_SETLK, flock(F_RDLCK, position, length));
}

/** Takes a lock on one byte for itself, as `shareBytes` does with others. @returns false when another one holds it */
export function tryLockByte(fd: number, position: number): boolean {
  try {
    lockCommand(fd, F_OFD_SETLK, flock(F_WRLCK, position, 1));
    return true;
  } catch {
    return false;
  }
}

/** Gives up the locks of the open file description in the range. @throws a system error */
export function releaseBytes(fd: number, position: number, length: number): void {
  lockCommand(fd, F_OFD_SETLK, flock(F_UNLCK, position, length));
}

/**
 * Whether any other open file description or process holds a lock in the range, shared or exclusive. Reading access
 * to the file suffices.
 *
 * @throws a system error
 */
export function othersLock(fd: number, position: number, length: number): boolean {
  const lock = flock(F_WRLCK, position, length);
  lockCommand(fd, F_OFD_GETLK, lock);
  return new Int16Array(lock.buffer)[0] !== F_UNLCK;
}
