/**
 * The FUSE kernel protocol, version 7 (Linux include/uapi/linux/fuse.h): opcodes, flags and structures, little endian
 * as on every machine that Node runs on with FUSE.
 */
import { struct } from '../struct.js';

export const FUSE_MAJOR = 7;
/** The newest minor version whose structures are declared here. */
export const FUSE_MINOR = 38;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  SYNCFS: 50,
} as const;

/** Bits of `flags`; from bit 32 on they travel in `flags2`. */
export const InitFlag = {
  ASYNC_READ: 1n << 0n,
  BIG_WRITES: 1n << 5n,
  DO_READDIRPLUS: 1n << 13n,
  READDIRPLUS_AUTO: 1n << 14n,
  ASYNC_DIO: 1n << 15n,
  WRITEBACK_CACHE: 1n << 16n,
  PARALLEL_DIROPS: 1n << 18n,
  MAX_PAGES: 1n << 22n,
  INIT_EXT: 1n << 30n,
  DIRECT_IO_ALLOW_MMAP: 1n << 36n,
} as const;

/** Reads and writes go past the page cache. */
export const FOPEN_DIRECT_IO = 1 << 0;
/** Keep the pages that the kernel cached under an earlier open. */
export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_CACHE_DIR = 1 << 3;

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
/** Directory entry types are the file type bits of the mode. */
export const DT_SHIFT = 12;

export const ROOT_ID = 1;

export const inHeader = struct('fuse_in_header', 'le', 40, {
  len: [0, 'u32'],
  opcode: [4, 'u32'],
  unique: [8, 'mask64'],
  nodeid: [16, 'u64'],
  uid: [24, 'u32'],
  gid: [28, 'u32'],
  pid: [32, 'u32'],
  totalExtlen: [36, 'u16'],
  padding: [38, 'u16'],
});

export const outHeader = struct('fuse_out_header', 'le', 16, {
  len: [0, 'u32'],
  error: [4, 'u32'],
  unique: [8, 'mask64'],
});

/** Kernels before 7.36 send the first 16 bytes only. */
export const initIn = struct('fuse_init_in', 'le', 64, {
  major: [0, 'u32'],
  minor: [4, 'u32'],
  maxReadahead: [8, 'u32'],
  flags: [12, 'u32'],
  flags2: [16, 'u32'],
  unused: [20, 'bytes:44'],
});

export const initOut = struct('fuse_init_out', 'le', 64, {
  major: [0, 'u32'],
  minor: [4, 'u32'],
  maxReadahead: [8, 'u32'],
  flags: [12, 'u32'],
  maxBackground: [16, 'u16'],
  congestionThreshold: [18, 'u16'],
  maxWrite: [20, 'u32'],
  timeGran: [24, 'u32'],
  maxPages: [28, 'u16'],
  mapAlignment: [30, 'u16'],
  flags2: [32, 'u32'],
  maxStackDepth: [36, 'u32'],
  requestTimeout: [40, 'u16'],
  unused: [42, 'bytes:22'],
});

const attrFields = {
  ino: [0, 'u64'],
  size: [8, 'u64'],
  blocks: [16, 'u64'],
  atime: [24, 'i64'],
  mtime: [32, 'i64'],
  ctime: [40, 'i64'],
  atimensec: [48, 'u32'],
  mtimensec: [52, 'u32'],
  ctimensec: [56, 'u32'],
  mode: [60, 'u32'],
  nlink: [64, 'u32'],
  uid: [68, 'u32'],
  gid: [72, 'u32'],
  rdev: [76, 'u32'],
  blksize: [80, 'u32'],
  flags: [84, 'u32'],
} as const;
export const attr = struct('fuse_attr', 'le', 88, attrFields);

/** `fuse_entry_out` is these 40 bytes and a `fuse_attr`. */
export const entryHead = struct('fuse_entry_out', 'le', 40, {
  nodeid: [0, 'u64'],
  generation: [8, 'u64'],
  entryValid: [16, 'u64'],
  attrValid: [24, 'u64'],
  entryValidNsec: [32, 'u32'],
  attrValidNsec: [36, 'u32'],
});

/** `fuse_attr_out` is these 16 bytes and a `fuse_attr`. */
export const attrHead = struct('fuse_attr_out', 'le', 16, {
  attrValid: [0, 'u64'],
  attrValidNsec: [8, 'u32'],
  dummy: [12, 'u32'],
});

export const setattrIn = struct('fuse_setattr_in', 'le', 88, {
  valid: [0, 'u32'],
  padding: [4, 'u32'],
  fh: [8, 'mask64'],
  size: [16, 'u64'],
  lockOwner: [24, 'mask64'],
  atime: [32, 'i64'],
  mtime: [40, 'i64'],
  ctime: [48, 'i64'],
  atimensec: [56, 'u32'],
  mtimensec: [60, 'u32'],
  ctimensec: [64, 'u32'],
  mode: [68, 'u32'],
  unused4: [72, 'u32'],
  uid: [76, 'u32'],
  gid: [80, 'u32'],
  unused5: [84, 'u32'],
});
/** `valid`: what is to be set. */
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_CTIME = 1 << 10;

export const openIn = struct('fuse_open_in', 'le', 8, { flags: [0, 'u32'], openFlags: [4, 'u32'] });
export const openOut = struct('fuse_open_out', 'le', 16, {
  fh: [0, 'mask64'],
  openFlags: [8, 'u32'],
  backingId: [12, 'u32'],
});

export const readIn = struct('fuse_read_in', 'le', 40, {
  fh: [0, 'mask64'],
  offset: [8, 'u64'],
  size: [16, 'u32'],
  readFlags: [20, 'u32'],
  lockOwner: [24, 'mask64'],
  flags: [32, 'u32'],
  padding: [36, 'u32'],
});

export const writeIn = struct('fuse_write_in', 'le', 40, {
  fh: [0, 'mask64'],
  offset: [8, 'u64'],
  size: [16, 'u32'],
  writeFlags: [20, 'u32'],
  lockOwner: [24, 'mask64'],
  flags: [32, 'u32'],
  padding: [36, 'u32'],
});
/** `writeFlags`: written back from the page cache. */
export const WRITE_CACHE = 1 << 0;
export const writeOut = struct('fuse_write_out', 'le', 8, { size: [0, 'u32'], padding: [4, 'u32'] });

export const statfsOut = struct('fuse_statfs_out', 'le', 80, {
  blocks: [0, 'u64'],
  bfree: [8, 'u64'],
  bavail: [16, 'u64'],
  files: [24, 'u64'],
  ffree: [32, 'u64'],
  bsize: [40, 'u32'],
  namelen: [44, 'u32'],
  frsize: [48, 'u32'],
  padding: [52, 'u32'],
  spare: [56, 'bytes:24'],
});

export const lseekIn = struct('fuse_lseek_in', 'le', 24, {
  fh: [0, 'mask64'],
  offset: [8, 'i64'],
  whence: [16, 'u32'],
  padding: [20, 'u32'],
});
export const lseekOut = struct('fuse_lseek_out', 'le', 8, { offset: [0, 'u64'] });

export const fallocateIn = struct('fuse_fallocate_in', 'le', 32, {
  fh: [0, 'mask64'],
  offset: [8, 'u64'],
  length: [16, 'u64'],
  mode: [24, 'u32'],
  padding: [28, 'u32'],
});

/** A `fuse_dirent`: the name follows, padded to 8. */
export const direntHead = struct('fuse_dirent', 'le', 24, {
  ino: [0, 'u64'],
  off: [8, 'u64'],
  namelen: [16, 'u32'],
  type: [20, 'u32'],
});
