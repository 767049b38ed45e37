/**
 * The portable transport: the same file system through fuse-native and libfuse 2. Slower than the kernel transport,
 * without SEEK_DATA and SEEK_HOLE, and only for directory mountpoints, because libfuse 2 has no more to offer.
 */
import { Qcow2fsError } from '../errors.js';
import { loadFuseNative } from '../host/fuse-native.js';
import { hasRawBytes } from '../names.js';
import { createTrace } from '../trace.js';
import { type Attributes, type DiskFs, ROOT_INODE } from './disk-fs.js';
import { Errno, errnoOf } from './errno.js';
import { Handle } from './inode.js';
import type { MountWord } from './mount-words.js';

type Operations = ConstructorParameters<typeof import('fuse-native')>[1];
type Stat = Exclude<Parameters<Parameters<NonNullable<Operations['getattr']>>[1]>[1], undefined>;

export interface LibfuseOptions {
  readonly mountpoint: string;
  readonly source: string;
  readonly allowOther: boolean;
  readonly words: readonly MountWord[];
}

const debug = createTrace('fuse');

const STATFS_BLOCK = 4096;
/** fuse-native carries 32 bits of each count. */
const MAX_COUNT = 0xffff_ffff;
const O_ACCMODE = 3;

/**
 * Mounts; the calling thread's event loop answers from then on.
 * @throws Qcow2fsError `fuse` or `mountpoint`
 */
export async function mountLibfuse(
  diskFs: DiskFs,
  options: LibfuseOptions,
  onFailure: (error: unknown) => void,
): Promise<void> {
  // fuse-native takes text.
  const odd = [options.mountpoint, options.source, diskFs.name ?? ''].find(hasRawBytes);
  if (odd !== undefined) {
    throw new Qcow2fsError(
      'usage',
      `${odd}: libfuse takes no name that is not UTF-8; leave out --transport libfuse`,
    );
  }
  const Fuse = loadFuseNative();
  class OptionedFuse extends Fuse {
    override _fuseOptions(): string {
      const words = [
        ...(diskFs.disk.readOnly ? ['ro'] : ['big_writes']),
        'default_permissions',
        // The mountpoint has been looked at.
        'nonempty',
        `fsname=${options.source.replace(/[\\,]/g, '\\$&')}`,
        'subtype=qcow2fs',
        ...(options.allowOther ? ['allow_other'] : []),
        ...options.words,
      ];
      return `-o${words.join(',')}`;
    }
  }
  const fuse = new OptionedFuse(options.mountpoint, operations(diskFs, onFailure));
  await new Promise<void>((resolve, reject) => {
    fuse.mount((error) => {
      if (error === null) resolve();
      else
        reject(
          new Qcow2fsError('mountpoint', `${options.mountpoint}: libfuse cannot mount: ${error.message}`),
        );
    });
  });
}

function operations(diskFs: DiskFs, onFailure: (error: unknown) => void): Operations {
  const { disk } = diskFs;
  const inodeOf = (path: string): number | undefined =>
    path === '/' ? ROOT_INODE : diskFs.lookup(ROOT_INODE, path.slice(1));
  const attempt = (action: () => number): number => {
    try {
      return action();
    } catch (error) {
      onFailure(error);
      return -errnoOf(error);
    }
  };
  const truncate = (path: string, size: number): number =>
    attempt(() => {
      if (disk.readOnly) return -Errno.EROFS;
      if (!diskFs.isDisk(inodeOf(path) ?? 0)) return -Errno.EISDIR;
      diskFs.truncate(size);
      return 0;
    });
  const flush = (request: 'FLUSH' | 'FSYNC'): number =>
    attempt(() => {
      if (debug.enabled) debug(request);
      disk.flush();
      return 0;
    });

  // Without these libfuse answers ENOSYS.
  const refuse = (done: (errno: number) => void): void => done(-diskFs.immutableErrno);

  return {
    mknod: (_path, _mode, _device, done) => refuse(done),
    create: (_path, _mode, done) => refuse(done),
    mkdir: (_path, _mode, done) => refuse(done),
    symlink: (_target, _path, done) => refuse(done),
    link: (_from, _to, done) => refuse(done),
    rename: (_from, _to, done) => refuse(done),
    unlink: (_path, done) => refuse(done),
    rmdir: (_path, done) => refuse(done),
    chmod: (_path, _mode, done) => refuse(done),
    chown: (_path, _uid, _gid, done) => refuse(done),
    getattr(path, done) {
      const inode = inodeOf(path);
      const attributes = inode === undefined ? undefined : diskFs.attributes(inode);
      if (attributes === undefined) done(-Errno.ENOENT);
      else done(0, toStat(attributes));
    },
    readdir(path, done) {
      const entries = diskFs.entries(inodeOf(path) ?? 0);
      if (entries === undefined) done(-Errno.ENOTDIR);
      else
        done(
          0,
          entries.map(({ name }) => name),
        );
    },
    open(path, flags, done) {
      const isReader = (flags & O_ACCMODE) === 0;
      if (!diskFs.isDisk(inodeOf(path) ?? 0)) return done(-Errno.EISDIR);
      if (!isReader && disk.readOnly) return done(-Errno.EROFS);
      const handle = isReader ? Handle.reader : Handle.cachedWriter;
      diskFs.inode.opened(handle);
      done(0, handle);
    },
    read(_path, _fd, buffer, length, offset, done) {
      if (debug.enabled) debug('READ: %d bytes at %d', length, offset);
      done(attempt(() => diskFs.read(buffer, 0, length, offset)));
    },
    write(_path, _fd, buffer, length, offset, done) {
      if (debug.enabled) debug('WRITE: %d bytes at %d', length, offset);
      done(attempt(() => diskFs.write(buffer, 0, length, offset) || -Errno.ENOSPC));
    },
    truncate: (path, size, done) => done(truncate(path, size)),
    ftruncate: (path, _fd, size, done) => done(truncate(path, size)),
    utimens(path, atimeMs, mtimeMs, done) {
      if (disk.readOnly) return done(-Errno.EROFS);
      const [atime, mtime, ctime] = [atimeMs, mtimeMs, Date.now()].map((ms) => BigInt(ms) * 1_000_000n);
      if (diskFs.isDisk(inodeOf(path) ?? 0))
        diskFs.inode.setTimes({ atime: atime!, mtime: mtime!, ctime: ctime! });
      done(0);
    },
    release(_path, handle, done) {
      diskFs.inode.released(handle);
      done(0);
    },
    flush: (_path, handle, done) => done(handle === Handle.reader ? 0 : flush('FLUSH')),
    fsync: (_path, _dataOnly, _fd, done) => done(flush('FSYNC')),
    statfs(_path, done) {
      const space = diskFs.space(STATFS_BLOCK);
      const blocks = Math.min(MAX_COUNT, space.blocks);
      const free = Math.min(blocks, space.free);
      done(0, {
        bsize: STATFS_BLOCK,
        frsize: STATFS_BLOCK,
        blocks,
        bfree: free,
        bavail: free,
        files: 1,
        namemax: 255,
      });
    },
  };
}

function toStat({ inode, size, blocks, mode, links, uid, gid, atime, mtime, ctime }: Attributes): Stat {
  const date = (time: bigint): Date => new Date(Number(time) / 1e6);
  return {
    ino: inode,
    size,
    blocks,
    blksize: STATFS_BLOCK,
    mode,
    nlink: links,
    uid,
    gid,
    atime: date(atime),
    mtime: date(mtime),
    ctime: date(ctime),
  };
}
