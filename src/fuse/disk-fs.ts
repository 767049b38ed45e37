/**
 * The file system that a mount shows: a directory with the disk as its one file, or the disk itself as the root.
 * Knows nothing of wires; both transports ask it.
 */
import type { Disk, Extent } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import { Errno } from './errno.js';
import { DiskInode, type Times } from './inode.js';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  S_IFDIR,
  S_IFREG,
} from './protocol.js';

export const ROOT_INODE = 1;
const FILE_INODE = 2;
/** Runs that one seek looks at: beyond that it gives a safe answer instead of a precise one. */
const MAX_SEEK_STEPS = 500_000;
/** Seconds that attributes may be remembered: of a disk that is written, or not counted yet, they change. */
const FINAL_SECONDS = 3600;
const CHANGING_SECONDS = 1;

export interface DiskFsOptions {
  /** The file's name in the directory; undefined when the mountpoint is the file itself. */
  readonly name: string | undefined;
  readonly uid: number;
  readonly gid: number;
  /** Permission bits; those to write mean nothing for a disk that is read-only. */
  readonly mode: number;
  /** Of `allocateInode`. */
  readonly inode: SharedArrayBuffer;
  /** The kernel collects writes, and owns size and times meanwhile: see inode.ts. */
  readonly writeBack: boolean;
}

const BLOCK = 512;

export interface Attributes extends Times {
  readonly inode: number;
  /** Bytes. */
  readonly size: number;
  /** Units of 512 bytes that hold data. */
  readonly blocks: number;
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds that the kernel may remember all this. */
  readonly validSeconds: number;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly inode: number;
}

export class DiskFs {
  readonly disk: Disk;
  readonly inode: DiskInode;
  /** See `DiskFsOptions`. */
  readonly writeBack: boolean;
  readonly #options: DiskFsOptions;
  /** The directory does not change. */
  readonly #directoryTimes: Times;

  constructor(disk: Disk, options: DiskFsOptions) {
    this.disk = disk;
    this.inode = new DiskInode(options.inode, disk);
    this.writeBack = options.writeBack;
    this.#options = options;
    this.#directoryTimes = this.inode.times;
  }

  /** The number of the disk's inode. */
  get diskInode(): number {
    return this.#options.name === undefined ? ROOT_INODE : FILE_INODE;
  }

  /** The errno of requests for other names, owners or permissions, which nobody can change. */
  get immutableErrno(): number {
    return this.disk.readOnly ? Errno.EROFS : Errno.EPERM;
  }

  /** Of the disk in its directory; undefined when it is the mountpoint itself. */
  get name(): string | undefined {
    return this.#options.name;
  }

  isDisk(inode: number): boolean {
    return inode === this.diskInode;
  }

  /** The inode of `name` in the directory `parent`, or undefined. */
  lookup(parent: number, name: string): number | undefined {
    return parent === ROOT_INODE && name === this.#options.name ? FILE_INODE : undefined;
  }

  /** @returns undefined for an inode that does not exist */
  attributes(inode: number): Attributes | undefined {
    const { uid, gid } = this.#options;
    if (this.isDisk(inode)) {
      const { size, times } = this.inode;
      const { blocks, isFinal } = this.inode.allocated;
      const validSeconds = isFinal ? FINAL_SECONDS : CHANGING_SECONDS;
      const mode = S_IFREG | this.#permissions();
      return { inode, uid, gid, ...times, size, blocks, mode, links: 1, validSeconds };
    }
    if (inode !== ROOT_INODE) return undefined;
    const mode = S_IFDIR | this.#directoryPermissions();
    const times = this.#directoryTimes;
    return { inode, uid, gid, ...times, size: 0, blocks: 0, mode, links: 2, validSeconds: FINAL_SECONDS };
  }

  /** What `df` shows: the size of the disk, and as free what holds no data yet, both in units of `unit` bytes. */
  space(unit: number): { readonly blocks: number; readonly free: number } {
    const blocks = Math.ceil(this.disk.size / unit);
    const used = Math.ceil((this.inode.allocated.blocks * BLOCK) / unit);
    return { blocks, free: Math.max(0, blocks - used) };
  }

  /** Entries of the root directory; undefined for anything else. */
  entries(inode: number): readonly DirectoryEntry[] | undefined {
    const { name } = this.#options;
    if (inode !== ROOT_INODE || name === undefined) return undefined;
    return [
      { name: '.', inode: ROOT_INODE },
      { name: '..', inode: ROOT_INODE },
      { name, inode: FILE_INODE },
    ];
  }

  /**
   * lseek(2) with SEEK_DATA or SEEK_HOLE. What the kernel holds for a disk that may be dirty may be anywhere.
   * @returns undefined for ENXIO: `offset` is at or beyond the end, or no data follows
   */
  seek(offset: number, wanted: 'data' | 'hole'): number | undefined {
    const { disk } = this;
    const { size, mayBeDirty } = this.inode;
    if (offset < 0 || offset >= size) return undefined;
    if (mayBeDirty) return wanted === 'data' ? offset : size;
    let reached = offset;
    let found: number | undefined;
    const look = (extent: Extent): boolean => {
      reached = extent.offset;
      if (extent.data === (wanted === 'data')) found = extent.offset;
      return found === undefined;
    };
    const complete = disk.scan(offset, size - offset, look, { steps: MAX_SEEK_STEPS });
    if (found !== undefined) return found;
    if (complete) return wanted === 'hole' ? size : undefined;
    // Always right: calling a hole data, and finding no hole before the end.
    return wanted === 'data' ? reached : size;
  }

  /** pread(2). @returns bytes read into the target; fewer than `length` at the end of the disk */
  read(target: Buffer, at: number, length: number, offset: number): number {
    const available = Math.max(0, Math.min(length, this.inode.size - offset));
    if (available > 0) this.disk.read(target, at, available, offset);
    return available;
  }

  /**
   * pwrite(2). A disk that may grow does so; any other one is full at its end, as a block device is.
   * @param isDirect past the page cache of a kernel that has one for writes
   * @returns bytes written; fewer than `length` only at the end of the disk, 0 beyond it
   */
  write(source: Buffer, at: number, length: number, offset: number, isDirect = false): number {
    const { disk } = this;
    const end = offset + length;
    const before = disk.size;
    if (end > before && disk.growable) this.#growTo(end);
    const grown = disk.size;
    const available = Math.max(0, Math.min(length, grown - offset));
    if (available === 0) return 0;
    try {
      disk.write(source, at, available, offset);
    } catch (error) {
      if (grown > before) this.#undoGrowth(grown, before);
      throw error;
    }
    this.#changed(offset + available, isDirect);
    return available;
  }

  /** ftruncate(2). @throws Qcow2fsError `fixed-size` or `too-large` */
  truncate(size: number): void {
    if (size === this.inode.size) return;
    if (size < this.inode.size) throw new Qcow2fsError('fixed-size', 'a disk cannot be made smaller');
    if (size > this.disk.size) this.#growTo(size);
    this.#changed(size);
  }

  /**
   * fallocate(2).
   * @returns false for what is not supported: to reserve space, and all other modes
   * @throws Qcow2fsError `too-large` when a disk that keeps its size would have to grow
   */
  allocate(mode: number, offset: number, length: number): boolean {
    const { disk } = this;
    const what = mode & ~FALLOC_FL_KEEP_SIZE;
    if (what !== 0 && what !== FALLOC_FL_PUNCH_HOLE && what !== FALLOC_FL_ZERO_RANGE) return false;
    const end = offset + length;
    const grows = end > this.inode.size && (mode & FALLOC_FL_KEEP_SIZE) === 0;
    if (grows && !disk.growable) {
      throw new Qcow2fsError('too-large', `the disk ends at ${disk.size} bytes and keeps its size`);
    }
    if (grows && end > disk.size) this.#growTo(end);
    const within = Math.min(length, disk.size - offset);
    if (what !== 0 && within > 0) {
      if (what === FALLOC_FL_PUNCH_HOLE) disk.discard(offset, within);
      else disk.zero(offset, within);
    }
    if (what === 0 && !grows) return false;
    this.#changed(grows ? end : 0);
    return true;
  }

  /** What made it necessary is told; that this fails, too, as it may on a full host, is not. */
  #undoGrowth(from: number, to: number): void {
    try {
      this.disk.undoGrowth(from, to);
    } catch {
      // The image is larger than what is shown, by zeros.
    }
  }

  /** @param end of what changed, which the disk holds now */
  #changed(end: number, isDirect = false): void {
    const { inode } = this;
    inode.noteChange();
    if (!this.writeBack) inode.noteTime();
    else if (isDirect || this.#isRoot) inode.oweTime();
    if (end > inode.size) inode.extendTo(end);
  }

  /** The root of a file system is made before the kernel knows of the write-back cache, and its time never moves. */
  get #isRoot(): boolean {
    return this.diskInode === ROOT_INODE;
  }

  /** Another thread may have made the disk even larger meanwhile. */
  #growTo(size: number): void {
    try {
      this.disk.resize(size);
    } catch (error) {
      if (this.disk.size < size) throw error;
    }
  }

  #permissions(): number {
    return this.#options.mode & (this.disk.readOnly ? 0o444 : 0o666);
  }

  #directoryPermissions(): number {
    const read = this.#permissions() & 0o444;
    return 0o500 | read | (read >> 2);
  }
}
