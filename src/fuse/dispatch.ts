/**
 * The FUSE server without a kernel: the bytes of one request in, the bytes of its reply out. Reads and writes allocate
 * nothing: the disk fills the reply in place, and takes data from the request.
 */

import { Qcow2fsError } from '../errors.js';
import { decodeName, encodeName } from '../names.js';
import { createTrace } from '../trace.js';
import { type DirectoryEntry, type DiskFs, ROOT_INODE } from './disk-fs.js';
import { Errno, errnoOf } from './errno.js';
import { Handle } from './inode.js';
import * as fuse from './protocol.js';
import { InitFlag, Opcode } from './protocol.js';
import {
  BLOCK_SIZE,
  describeResult,
  finish,
  NO_REPLY,
  opcodeName,
  REPLY_HEADER,
  writeAttr,
  writeEntry,
} from './reply.js';
import {
  BODY,
  HANDLE,
  HANDLE_END,
  LEN,
  NODEID,
  OPCODE,
  READ_OFFSET,
  READ_SIZE,
  readU64,
  timesIn,
  WRITE_CACHED,
  WRITE_DATA,
  WRITE_OFFSET,
  WRITE_OPEN_FLAGS,
  WRITE_SIZE,
} from './request.js';

const debug = createTrace('fuse');

/** The largest request and reply: 256 pages, the most that a kernel grants. */
export const MAX_TRANSFER = 1024 * 1024;
const MAX_PAGES = 256;
/** The most that the kernel may read ahead of a sequential reader: bytes. More than a request measured no better. */
export const MAX_READ_AHEAD = MAX_TRANSFER;
const HEADER = REPLY_HEADER;
/** Room for the largest request: a write with its headers. */
export const REQUEST_BYTES = MAX_TRANSFER + 4096;
/** Room for the largest reply: a read with its header. */
export const REPLY_BYTES = MAX_TRANSFER + HEADER;

/** Requests that the kernel keeps in flight for read-ahead and direct I/O. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;
const LOOKUP_FLAGS = InitFlag.DO_READDIRPLUS | InitFlag.READDIRPLUS_AUTO | InitFlag.PARALLEL_DIROPS;
const DATA_FLAGS =
  InitFlag.ASYNC_READ |
  InitFlag.ASYNC_DIO |
  InitFlag.BIG_WRITES |
  InitFlag.MAX_PAGES |
  InitFlag.DIRECT_IO_ALLOW_MMAP;
const WRITE_FLAGS = InitFlag.WRITEBACK_CACHE;

const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_DSYNC = 0o10000;
const FATTR_OWNERSHIP = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID;
const MAX_NAME = 255;
const PATH_OPCODES: ReadonlySet<number> = new Set([
  Opcode.SYMLINK,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
  Opcode.LINK,
  Opcode.CREATE,
]);

/** Told of every failure that becomes an errno, so that the daemon can log it. */
export type FailureListener = (error: unknown) => void;

/** Called when the kernel's page cache took bytes beyond the end of a disk that keeps its size: they were refused. */
export type OverrunListener = () => void;

export class Dispatcher {
  readonly #fs: DiskFs;
  readonly #onFailure: FailureListener;
  readonly #onOverrun: OverrunListener;
  /** The latest reply has to wait until the kernel knows the modification time. */
  #awaitsTime = false;

  constructor(fs: DiskFs, onFailure: FailureListener, onOverrun: OverrunListener = () => {}) {
    this.#fs = fs;
    this.#onFailure = onFailure;
    this.#onOverrun = onOverrun;
  }

  /**
   * Whether the latest reply may be sent only when the kernel has been told the modification time, because whoever gets
   * it may look at the time next.
   */
  get awaitsTime(): boolean {
    return this.#awaitsTime;
  }

  /**
   * @param request one request as read(2) on /dev/fuse gives it, in its first `length` bytes
   * @param reply has room for `REPLY_BYTES`
   * @returns bytes of the reply; 0 for requests that get none
   */
  dispatch(request: Buffer, length: number, reply: Buffer): number {
    if (length < BODY || request.readUInt32LE(LEN) !== length) return 0;
    const opcode = request.readUInt32LE(OPCODE);
    let result: number;
    this.#awaitsTime = false;
    try {
      result = this.#perform(opcode, request, length, reply);
    } catch (error) {
      if (!(error instanceof RangeError)) this.#onFailure(error);
      result = opcode === Opcode.LSEEK && error instanceof RangeError ? -Errno.ENXIO : -errnoOf(error);
    }
    if (debug.enabled) debug('%s: %s', opcodeName(opcode), describeResult(result));
    if (result === NO_REPLY) return 0;
    return finish(request, reply, result);
  }

  /** @returns bytes of the reply's body, a negative errno, or `NO_REPLY` */
  #perform(opcode: number, request: Buffer, length: number, reply: Buffer): number {
    const inode = readU64(request, NODEID);
    switch (opcode) {
      case Opcode.READ:
        return length < BODY + fuse.readIn.size ? -Errno.EINVAL : this.#read(request, inode, reply);
      case Opcode.WRITE:
        return length < WRITE_DATA ? -Errno.EINVAL : this.#write(request, length, inode, reply);
      case Opcode.FORGET:
      case Opcode.BATCH_FORGET:
      case Opcode.INTERRUPT:
        return NO_REPLY;
      case Opcode.DESTROY:
      case Opcode.RELEASEDIR:
      case Opcode.FSYNCDIR:
        return 0;
      case Opcode.RELEASE:
        if (length >= HANDLE_END) this.#fs.inode.released(request.readUInt32LE(HANDLE));
        return 0;
      case Opcode.FLUSH:
        // A descriptor that cannot write has nothing to lose, and no business with the failures of others.
        if (length >= HANDLE_END && request.readUInt32LE(HANDLE) === Handle.reader) return 0;
        this.#fs.disk.flush();
        this.#awaitsTime = this.#fs.inode.awaitsTime;
        return 0;
      case Opcode.FSYNC:
      case Opcode.SYNCFS:
        this.#fs.disk.flush();
        return 0;
      case Opcode.STATFS:
        return this.#statfs(reply);
      case Opcode.GETATTR:
        return this.#getattr(inode, reply);
      default:
        if (PATH_OPCODES.has(opcode)) return -this.#fs.immutableErrno;
        return this.#performWithBody(opcode, inode, request.subarray(BODY, length), reply);
    }
  }

  #performWithBody(opcode: number, inode: number, body: Buffer, reply: Buffer): number {
    switch (opcode) {
      case Opcode.INIT:
        return body.length < 16 ? -Errno.EINVAL : this.#init(body, reply);
      case Opcode.LOOKUP:
        return this.#lookup(inode, body, reply);
      case Opcode.OPEN:
        return body.length < fuse.openIn.size ? -Errno.EINVAL : this.#open(inode, body, reply);
      case Opcode.OPENDIR:
        return this.#opendir(inode, reply);
      case Opcode.READDIR:
      case Opcode.READDIRPLUS: {
        if (body.length < fuse.readIn.size) return -Errno.EINVAL;
        return this.#readdir(inode, body, reply, opcode === Opcode.READDIRPLUS);
      }
      case Opcode.LSEEK:
        return body.length < fuse.lseekIn.size ? -Errno.EINVAL : this.#lseek(inode, body, reply);
      case Opcode.SETATTR:
        return body.length < fuse.setattrIn.size ? -Errno.EINVAL : this.#setattr(inode, body, reply);
      case Opcode.FALLOCATE:
        return body.length < fuse.fallocateIn.size ? -Errno.EINVAL : this.#fallocate(inode, body);
      default:
        return -Errno.ENOSYS;
    }
  }

  #read(request: Buffer, inode: number, reply: Buffer): number {
    if (!this.#fs.isDisk(inode)) return -Errno.EISDIR;
    const offset = readU64(request, READ_OFFSET);
    const size = request.readUInt32LE(READ_SIZE);
    if (size > MAX_TRANSFER) return -Errno.EINVAL;
    return this.#fs.read(reply, HEADER, size, offset);
  }

  #init(body: Buffer, reply: Buffer): number {
    const padded = Buffer.alloc(fuse.initIn.size);
    body.copy(padded);
    const { major, minor, flags, flags2 } = fuse.initIn.read(padded);
    if (major < FUSE_OLDEST_MAJOR) throw new Qcow2fsError('fuse', `the kernel speaks FUSE ${major}.${minor}`);
    const offered = BigInt(flags) | (BigInt(flags2) << 32n);
    const { writeBack } = this.#fs;
    const wanted = InitFlag.INIT_EXT | LOOKUP_FLAGS | DATA_FLAGS | (writeBack ? WRITE_FLAGS : 0n);
    const granted = offered & wanted;
    return this.#reply(fuse.initOut, reply, {
      major: fuse.FUSE_MAJOR,
      minor: Math.min(minor, fuse.FUSE_MINOR),
      // Not a wish, a limit: the mount's own setting stays at 128 KiB unless root raises it.
      maxReadahead: MAX_READ_AHEAD,
      flags: Number(granted & 0xffff_ffffn),
      flags2: Number(granted >> 32n),
      maxBackground: MAX_BACKGROUND,
      congestionThreshold: CONGESTION_THRESHOLD,
      maxWrite: MAX_TRANSFER,
      timeGran: 1,
      maxPages: MAX_PAGES,
    });
  }

  #lookup(parent: number, body: Buffer, reply: Buffer): number {
    const end = body.indexOf(0);
    const name = decodeName(body.subarray(0, end === -1 ? body.length : end));
    const inode = this.#fs.lookup(parent, name);
    if (inode === undefined) return -Errno.ENOENT;
    writeEntry(reply, HEADER, this.#fs.attributes(inode)!);
    return fuse.entryHead.size + fuse.attr.size;
  }

  #getattr(inode: number, reply: Buffer): number {
    const attributes = this.#fs.attributes(inode);
    if (attributes === undefined) return -Errno.ENOENT;
    fuse.attrHead.write(reply, HEADER, { attrValid: attributes.validSeconds, attrValidNsec: 0, dummy: 0 });
    writeAttr(reply, HEADER + fuse.attrHead.size, attributes);
    return fuse.attrHead.size + fuse.attr.size;
  }

  #setattr(inode: number, body: Buffer, reply: Buffer): number {
    if (this.#fs.disk.readOnly) return -Errno.EROFS;
    const wanted = fuse.setattrIn.read(body);
    // Owner and permissions follow the image file.
    if (wanted.valid & FATTR_OWNERSHIP) return -Errno.EPERM;
    if (wanted.valid & fuse.FATTR_SIZE) {
      if (!this.#fs.isDisk(inode)) return -Errno.EISDIR;
      this.#fs.truncate(wanted.size);
    }
    if (this.#fs.isDisk(inode)) {
      const times = timesIn(wanted);
      if (times.mtime !== undefined && this.#fs.inode.isOutdated(times.mtime)) return -Errno.ECANCELED;
      this.#fs.inode.setTimes(times);
    }
    return this.#getattr(inode, reply);
  }

  #open(inode: number, body: Buffer, reply: Buffer): number {
    if (!this.#fs.isDisk(inode)) return -Errno.EISDIR;
    const access = fuse.openIn.read(body).flags & O_ACCMODE;
    if (access !== O_RDONLY && this.#fs.disk.readOnly) return -Errno.EROFS;
    // Who only writes gains nothing from cached pages, and learns at once that the disk is full.
    const direct = access === O_WRONLY ? fuse.FOPEN_DIRECT_IO : 0;
    const handle = access === O_RDONLY ? Handle.reader : direct ? Handle.directWriter : Handle.cachedWriter;
    this.#fs.inode.opened(handle);
    return this.#reply(fuse.openOut, reply, {
      fh: BigInt(handle),
      openFlags: fuse.FOPEN_KEEP_CACHE | direct,
    });
  }

  #opendir(inode: number, reply: Buffer): number {
    if (this.#fs.entries(inode) === undefined) return -Errno.ENOTDIR;
    return this.#reply(fuse.openOut, reply, { openFlags: fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR });
  }

  #readdir(inode: number, body: Buffer, reply: Buffer, plus: boolean): number {
    const entries = this.#fs.entries(inode);
    if (entries === undefined) return -Errno.ENOTDIR;
    const { offset, size } = fuse.readIn.read(body);
    const end = HEADER + Math.min(size, MAX_TRANSFER);
    let at = HEADER;
    for (let index = offset; index < entries.length; index++) {
      const next = this.#writeDirent(reply, at, end, entries[index]!, index + 1, plus);
      if (next === undefined) break;
      at = next;
    }
    return at - HEADER;
  }

  /** @returns where the next entry goes, or undefined when this one does not fit */
  #writeDirent(
    reply: Buffer,
    at: number,
    end: number,
    entry: DirectoryEntry,
    nextOffset: number,
    plus: boolean,
  ): number | undefined {
    const name = encodeName(entry.name);
    const head = plus ? fuse.entryHead.size + fuse.attr.size : 0;
    const size = head + Math.ceil((fuse.direntHead.size + name.length) / 8) * 8;
    if (at + size > end) return undefined;
    const attributes = this.#fs.attributes(entry.inode)!;
    reply.fill(0, at, at + size);
    // The kernel counts a look-up for every entry but the dots, which it wants with node 0.
    if (plus && entry.inode !== ROOT_INODE) writeEntry(reply, at, attributes);
    fuse.direntHead.write(reply, at + head, {
      ino: entry.inode,
      off: nextOffset,
      namelen: name.length,
      type: (attributes.mode & fuse.S_IFMT) >> fuse.DT_SHIFT,
    });
    name.copy(reply, at + head + fuse.direntHead.size);
    return at + size;
  }

  #lseek(inode: number, body: Buffer, reply: Buffer): number {
    if (!this.#fs.isDisk(inode)) return -Errno.EINVAL;
    const { offset, whence } = fuse.lseekIn.read(body);
    if (whence !== fuse.SEEK_DATA && whence !== fuse.SEEK_HOLE) return -Errno.EINVAL;
    const found = this.#fs.seek(offset, whence === fuse.SEEK_DATA ? 'data' : 'hole');
    if (found === undefined) return -Errno.ENXIO;
    return this.#reply(fuse.lseekOut, reply, { offset: found });
  }

  #write(request: Buffer, length: number, inode: number, reply: Buffer): number {
    const { disk } = this.#fs;
    if (disk.readOnly) return -Errno.EROFS;
    if (!this.#fs.isDisk(inode)) return -Errno.EISDIR;
    const offset = readU64(request, WRITE_OFFSET);
    const size = request.readUInt32LE(WRITE_SIZE);
    if (WRITE_DATA + size > length) return -Errno.EINVAL;
    if (!Number.isSafeInteger(offset + size)) return -Errno.EFBIG;
    const cached = (request.readUInt32LE(WRITE_CACHED) & fuse.WRITE_CACHE) !== 0;
    const isDirect = !cached && request.readUInt32LE(HANDLE) === Handle.directWriter;
    const written = this.#fs.write(request, WRITE_DATA, size, offset, isDirect);
    if (written < size && (written === 0 || cached)) {
      if (cached) this.#onOverrun();
      return -Errno.ENOSPC;
    }
    if (request.readUInt32LE(WRITE_OPEN_FLAGS) & O_DSYNC) disk.flush();
    reply.writeUInt32LE(written, HEADER);
    reply.writeUInt32LE(0, HEADER + fuse.writeOut.offsets.padding);
    return fuse.writeOut.size;
  }

  #fallocate(inode: number, body: Buffer): number {
    if (this.#fs.disk.readOnly) return -Errno.EROFS;
    if (!this.#fs.isDisk(inode)) return -Errno.EISDIR;
    const { offset, length, mode } = fuse.fallocateIn.read(body);
    return this.#fs.allocate(mode, offset, length) ? 0 : -Errno.EOPNOTSUPP;
  }

  #statfs(reply: Buffer): number {
    const { blocks, free } = this.#fs.space(BLOCK_SIZE);
    return this.#reply(fuse.statfsOut, reply, {
      blocks,
      bfree: free,
      bavail: free,
      files: 1,
      bsize: BLOCK_SIZE,
      frsize: BLOCK_SIZE,
      namelen: MAX_NAME,
    });
  }

  /** Zeroes the structure, writes the given fields, and gives its size. */
  #reply<V>(
    struct: { readonly size: number; write(buffer: Buffer, at: number, values: V): void },
    reply: Buffer,
    values: V,
  ): number {
    reply.fill(0, HEADER, HEADER + struct.size);
    struct.write(reply, HEADER, values);
    return struct.size;
  }
}

const FUSE_OLDEST_MAJOR = 7;
