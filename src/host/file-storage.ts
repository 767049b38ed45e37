/** A file or block device of the host, or a part of one, as a `Storage`. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { errnoName, hostReason, Qcow2fsError } from '../errors.js';
import fs, { type StatsBase } from '../fs.js';
import type { Storage } from '../storage.js';
import { pathOfOpenFile } from './descriptors.js';
import { readAt, writeAt } from './io.js';
import { LargeFolios } from './large-folios.js';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocate, seekData, seekEnd, seekHole } from './libc.js';

/** An open file as it travels to another thread of the process, which shares the descriptor. */
export interface OpenFile {
  readonly fd: number;
  readonly path: string;
  /** Block devices have no size of their own in stat(2). */
  readonly blockDevice: boolean;
  /** Identify the file, whatever its name: two names of one file have the same pair. */
  readonly device: bigint;
  readonly inode: bigint;
  /** Group, permission bits and modification time in milliseconds, for the mounted file's own attributes. */
  readonly gid: number;
  readonly mode: number;
  readonly mtimeMs: number;
}

/** Bytes of a write whose time tells how the page cache keeps the file. */
const SMALL_WRITE = 16 * 1024;
const ZEROS_BYTES = 256 * 1024;
/** Two names of one number. */
const NO_HOLES: ReadonlySet<string | undefined> = new Set(['EOPNOTSUPP', 'ENOTSUP']);

type OpenFailure = 'host-io' | 'named-file';
export type FileAccess = 'read-only' | 'read-write';

/** @throws Qcow2fsError of the given kind */
export function openFile(path: string, access: FileAccess, kind: OpenFailure = 'host-io'): OpenFile {
  return access === 'read-only' ? openReadOnly(path, kind) : openReadWrite(path, kind);
}

/**
 * Opens a file or block device read-only without touching its access time where the kernel allows that
 * (O_NOATIME needs ownership), and without blocking on a FIFO.
 *
 * @throws Qcow2fsError of the given kind
 */
export function openReadOnly(path: string, kind: OpenFailure = 'host-io'): OpenFile {
  return describe(openWithoutAtime(path, kind), path, kind);
}

/**
 * Opens a file or block device for reading and writing.
 *
 * @throws Qcow2fsError of the given kind
 */
export function openReadWrite(path: string, kind: OpenFailure = 'host-io'): OpenFile {
  const { O_RDWR, O_NONBLOCK } = fs.constants;
  try {
    return describe(fs.openSync(path, O_RDWR | O_NONBLOCK), path, kind);
  } catch (error) {
    if (error instanceof Qcow2fsError) throw error;
    const code = errnoName(error);
    if (code === 'EISDIR') throw oddFile('a directory', path, kind);
    const hint = WRITE_PROTECTED.has(code)
      ? '; it can be read: mount it with -r, check it without --repair'
      : '';
    throw new Qcow2fsError(kind, `${path}: cannot open for writing: ${hostReason(error)}${hint}`, {
      cause: error,
    });
  }
}

/**
 * Makes a new, empty file for its owner alone.
 *
 * @throws Qcow2fsError `host-io`, also where the file exists
 */
export function createFile(path: string): OpenFile {
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  try {
    return describe(fs.openSync(path, O_RDWR | O_CREAT | O_EXCL, 0o600), path, 'host-io');
  } catch (error) {
    throw new Qcow2fsError('host-io', `${path}: cannot be created: ${hostReason(error)}`, { cause: error });
  }
}

/** Linux: a file that never gets a name, on file systems that have such. */
const O_TMPFILE = 0o20000000 | fs.constants.O_DIRECTORY;

/**
 * Makes a new, empty file that is gone when nobody has it open any more, even after a power cut. Where the file system
 * knows no nameless files it loses its name at once.
 *
 * @throws Qcow2fsError `host-io`
 */
export function createNamelessFile(directory: string): OpenFile {
  if (process.platform === 'linux') {
    const { O_RDWR, O_EXCL } = fs.constants;
    try {
      return describe(fs.openSync(directory, O_TMPFILE | O_RDWR | O_EXCL, 0o600), directory, 'host-io');
    } catch {
      // Whatever it was, a named file tells.
    }
  }
  const file = createFile(join(directory, `qcow2fs-${randomBytes(8).toString('hex')}`));
  fs.unlinkSync(file.path);
  return file;
}

const WRITE_PROTECTED: ReadonlySet<string | undefined> = new Set(['EACCES', 'EPERM', 'EROFS']);

/** A FIFO or a directory is opened only to be told apart. */
function describe(fd: number, path: string, kind: OpenFailure): OpenFile {
  try {
    const stat = fs.fstatSync(fd, { bigint: true });
    refuseOddFile(stat, path, kind);
    return {
      fd,
      path: pathOfOpenFile(fd, path),
      blockDevice: stat.isBlockDevice(),
      device: stat.dev,
      inode: stat.ino,
      gid: Number(stat.gid),
      mode: Number(stat.mode) & 0o7777,
      mtimeMs: Number(stat.mtimeMs),
    };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** @throws Qcow2fsError of the given kind for anything but a regular file or a block device */
export function refuseOddFile(stat: StatsBase<number | bigint>, path: string, kind: OpenFailure): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  const what = stat.isDirectory() ? 'a directory' : stat.isFIFO() ? 'a FIFO' : 'no file';
  throw oddFile(what, path, kind);
}

function oddFile(what: string, path: string, kind: OpenFailure): Qcow2fsError {
  return new Qcow2fsError(kind, `${path}: is ${what}; a regular file or a block device is needed`);
}

function openWithoutAtime(path: string, kind: OpenFailure): number {
  const { O_RDONLY, O_NONBLOCK, O_NOATIME = 0 } = fs.constants;
  const flags = O_RDONLY | O_NONBLOCK;
  try {
    try {
      return fs.openSync(path, flags | O_NOATIME);
    } catch (error) {
      if (errnoName(error) !== 'EPERM') throw error;
      return fs.openSync(path, flags);
    }
  } catch (error) {
    throw new Qcow2fsError(kind, `${path}: cannot open: ${hostReason(error)}`, { cause: error });
  }
}

export class FileStorage implements Storage {
  readonly path: string;
  readonly extensible: boolean;
  readonly #file: OpenFile;
  readonly #folios: LargeFolios;

  constructor(file: OpenFile) {
    this.#file = file;
    this.#folios = new LargeFolios(file.fd);
    this.path = file.path;
    this.extensible = !file.blockDevice;
  }

  size(): number {
    return this.#try('size', () =>
      this.#file.blockDevice ? seekEnd(this.#file.fd) : fs.fstatSync(this.#file.fd).size,
    );
  }

  allocatedBytes(): number {
    return this.#try('size', () =>
      this.#file.blockDevice ? seekEnd(this.#file.fd) : fs.fstatSync(this.#file.fd).blocks * 512,
    );
  }

  read(target: Buffer, targetOffset: number, length: number, position: number): number {
    const { fd } = this.#file;
    let done = 0;
    try {
      while (done < length) {
        const read = readAt(fd, target, targetOffset + done, length - done, position + done);
        if (read === 0) break;
        done += read;
      }
    } catch (error) {
      throw this.#failure('read', position + done, error);
    }
    return done;
  }

  write(source: Buffer, sourceOffset: number, length: number, position: number): void {
    const { fd } = this.#file;
    let done = 0;
    if (length <= SMALL_WRITE) this.#folios.beforeWrite(position);
    try {
      while (done < length) {
        done += writeAt(fd, source, sourceOffset + done, length - done, position + done);
      }
    } catch (error) {
      throw this.#failure('write', position + done, error);
    }
    if (length <= SMALL_WRITE) this.#folios.afterWrite();
  }

  nextData(position: number): number {
    return seekData(this.#file.fd, position) ?? this.size();
  }

  nextHole(position: number): number {
    return seekHole(this.#file.fd, position) ?? this.size();
  }

  punch(position: number, length: number): void {
    this.#try('punch', () =>
      fallocate(this.#file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length),
    );
  }

  zero(position: number, length: number): void {
    try {
      fallocate(this.#file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length);
    } catch (error) {
      if (!NO_HOLES.has(errnoName(error))) throw this.#failure('zero', position, error);
      const zeros = Buffer.alloc(Math.min(length, ZEROS_BYTES));
      for (let done = 0; done < length; done += zeros.length) {
        this.write(zeros, 0, Math.min(zeros.length, length - done), position + done);
      }
    }
  }

  truncate(size: number): void {
    this.#try('truncate', () => fs.ftruncateSync(this.#file.fd, size));
  }

  sync(): void {
    this.#try('sync', () => fs.fdatasyncSync(this.#file.fd));
  }

  close(): void {
    fs.closeSync(this.#file.fd);
  }

  #try<T>(call: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.#failure(call, undefined, error);
    }
  }

  #failure(call: string, position: number | undefined, error: unknown): Qcow2fsError {
    const where = position === undefined ? '' : ` at 0x${position.toString(16)}`;
    return new Qcow2fsError('host-io', `${this.path}: ${call} failed${where}: ${hostReason(error)}`, {
      cause: error,
    });
  }
}
