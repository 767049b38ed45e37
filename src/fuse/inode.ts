/**
 * The inode of the disk: its size, times, blocks and open descriptors, in memory that all threads of a mount share.
 * Whoever answers a request about one of them asks this object, and nobody else keeps a copy.
 *
 * What the kernel does (Linux fs/fuse; tried with 6.18), and who therefore owns what:
 *
 * - Write-back cache (WRITEBACK_CACHE; kernel transport, disks that keep their size): the kernel owns size and
 *   modification time of an inode that it has in memory, and ignores what GETATTR tells about them. Times that it
 *   changed come by SETATTR, at the latest before it forgets the inode, and are told again when it comes back.
 * - A disk that may grow has no write-back cache: the kernel would take bytes beyond the end before the image can hold
 *   them, and lose them, or show them, when it cannot. Each write(2) is a WRITE that is granted or refused before it
 *   returns. Size and times are owned here. So they are for libfuse, which has no such cache.
 * - A write past the page cache (FOPEN_DIRECT_IO) does not move a modification time that the kernel owns, and nothing
 *   moves that of the root of a file system (a disk that is mounted on a file). It is owed to the kernel then, and told
 *   within a second and when the descriptor is closed: see `oweTime`. Not by the request itself: for FSYNC and some
 *   GETATTRs the kernel holds the lock that it takes to learn a time.
 * - Dirty pages come only from descriptors that may read and write, by write(2) or a shared mmap. Before the last one's
 *   RELEASE the kernel has written all of them. LSEEK and GETATTR come without regard to dirty pages, so while such a
 *   descriptor is open everything counts as data.
 *
 *   BYTE  DESCRIPTION
 *      0  size: bytes, a double. It has a lock-free maximum: doubles that are not negative are ordered as their bits.
 *      8  counted: bytes that hold data, a double; -1 until they are counted
 *     16  atime, mtime, ctime: nanoseconds since 1970, signed
 *     40  writers: open descriptors that may leave dirty pages
 *     44  owed: 1 when the kernel does not know the latest modification time
 *     48  generation: bumped whenever what is stored may have changed
 *     52  settings: bumped whenever times are set
 *     56  told: the time that the kernel is being told, nanoseconds since 1970; `NOT_TOLD` while it is not
 *     64  settings when that began
 */
import { AllocationCount, type Disk, estimateAllocated } from '../disk.js';

const SIZE = 0;
const COUNTED = 1;
const ATIME = 2;
const MTIME = 3;
const CTIME = 4;
const WRITERS = 10;
const OWED = 11;
const GENERATION = 12;
const SETTINGS = 13;
const TOLD = 7;
const TOLD_SETTINGS = 16;
const BYTES = 72;

/** No program sets this time. */
const NOT_TOLD = -(2n ** 63n);

const NOT_COUNTED = -1;
const BLOCK = 512;
/** Runs of a disk that changes which are looked at to count its blocks. */
const MAX_COUNT_STEPS = 2000;
const NS_PER_MS = 1_000_000n;

/** Nanoseconds since 1970. */
export interface Times {
  readonly atime: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
}

/** How a descriptor was opened: the file handle that the kernel is given. */
export const Handle = {
  /** Only reads. */
  reader: 0,
  /** Reads and writes, through the page cache. */
  cachedWriter: 1,
  /** Only writes, past the page cache. */
  directWriter: 2,
} as const;

/**
 * @param size bytes
 * @param mtimeMs milliseconds since 1970, of the image
 */
export function allocateInode(size: number, mtimeMs: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(BYTES);
  new Float64Array(memory, 0, 2).set([size, NOT_COUNTED]);
  const time = BigInt(Math.round(mtimeMs * 1000)) * 1000n;
  const bits = new BigInt64Array(memory, 0, TOLD + 1);
  bits.fill(time, ATIME, CTIME + 1);
  bits[TOLD] = NOT_TOLD;
  return memory;
}

/** The bytes of a disk that does not change which hold data are counted now. */
export function setCounted(memory: SharedArrayBuffer, bytes: number): void {
  new Float64Array(memory, 0, 2)[COUNTED] = bytes;
}

export class DiskInode {
  readonly #disk: Disk;
  readonly #numbers: Float64Array;
  readonly #bits: BigInt64Array;
  readonly #words: Int32Array;
  /** For the bits of a double. */
  readonly #scratch = new Float64Array(1);
  readonly #scratchBits = new BigInt64Array(this.#scratch.buffer);
  /** The latest time that this thread noted: milliseconds since 1970, and how often times had been set by then. */
  #noted = 0;
  #notedSettings = 0;
  /** What this thread counted of a disk that changes, and when. */
  #blocks = 0;
  #blocksGeneration: number | undefined;

  /** @param memory of `allocateInode` */
  constructor(memory: SharedArrayBuffer, disk: Disk) {
    this.#disk = disk;
    this.#numbers = new Float64Array(memory, 0, 2);
    this.#bits = new BigInt64Array(memory, 0, TOLD + 1);
    this.#words = new Int32Array(memory);
  }

  /** Bytes. Of a disk that grew it need not be whole sectors, although that of the image is. */
  get size(): number {
    return this.#numbers[SIZE]!;
  }

  /** The disk holds this much now, unless it holds more. @param size bytes, which the image can hold already */
  extendTo(size: number): void {
    this.#scratch[0] = size;
    const wanted = this.#scratchBits[0]!;
    for (;;) {
      const seen = Atomics.load(this.#bits, SIZE);
      if (seen >= wanted) return;
      if (Atomics.compareExchange(this.#bits, SIZE, seen, wanted) === seen) return;
    }
  }

  opened(handle: number): void {
    if (handle === Handle.cachedWriter) Atomics.add(this.#words, WRITERS, 1);
  }

  released(handle: number): void {
    if (handle === Handle.cachedWriter) Atomics.sub(this.#words, WRITERS, 1);
  }

  /** The kernel may hold bytes that have not come yet. */
  get mayBeDirty(): boolean {
    return Atomics.load(this.#words, WRITERS) > 0;
  }

  get times(): Times {
    const [atime, mtime, ctime] = [ATIME, MTIME, CTIME].map((index) => Atomics.load(this.#bits, index));
    return { atime: atime!, mtime: mtime!, ctime: ctime! };
  }

  /** What a program set, or the kernel. */
  setTimes({ atime, mtime, ctime }: Partial<Times>): void {
    if (atime !== undefined) Atomics.store(this.#bits, ATIME, atime);
    if (ctime !== undefined) Atomics.store(this.#bits, CTIME, ctime);
    if (mtime === undefined) return;
    // The kernel's own time, without the last access, may be older than a write that it does not know of.
    const isOlder = atime === undefined && this.#isOwed && mtime < Atomics.load(this.#bits, MTIME);
    if (isOlder) return;
    Atomics.store(this.#bits, MTIME, mtime);
    Atomics.store(this.#words, OWED, 0);
    Atomics.add(this.#words, SETTINGS, 1);
  }

  /** What is stored may have changed. */
  noteChange(): void {
    Atomics.add(this.#words, GENERATION, 1);
  }

  /** Somebody changed the disk, and the kernel leaves the modification time to us. */
  noteTime(): void {
    const now = Date.now();
    const settings = Atomics.load(this.#words, SETTINGS);
    // Not one bigint for each request.
    if (now === this.#noted && settings === this.#notedSettings) return;
    this.#noted = now;
    this.#notedSettings = settings;
    const time = BigInt(now) * NS_PER_MS;
    Atomics.store(this.#bits, MTIME, time);
    Atomics.store(this.#bits, CTIME, time);
  }

  /** As `noteTime`, of a modification time that the kernel owns and has not moved. */
  oweTime(): void {
    this.noteTime();
    Atomics.store(this.#words, OWED, 1);
  }

  /** Whether the kernel has to be told the modification time; who gets true sees to it. */
  takeOwedTime(): boolean {
    return this.#isOwed && Atomics.exchange(this.#words, OWED, 0) === 1;
  }

  /** The kernel is about to be told this time: whoever closes the disk waits until that has ended. */
  beginTelling(mtime: bigint): void {
    Atomics.store(this.#words, TOLD_SETTINGS, this.#settings);
    Atomics.store(this.#bits, TOLD, mtime);
  }

  endTelling(): void {
    Atomics.store(this.#bits, TOLD, NOT_TOLD);
  }

  /** Whether a close has to wait for the modification time. */
  get awaitsTime(): boolean {
    return this.#isOwed || Atomics.load(this.#bits, TOLD) !== NOT_TOLD;
  }

  /** Whether this is the time that the kernel is being told, and a program has set another one since that began. */
  isOutdated(mtime: bigint): boolean {
    return (
      mtime === Atomics.load(this.#bits, TOLD) && Atomics.load(this.#words, TOLD_SETTINGS) !== this.#settings
    );
  }

  get #settings(): number {
    return Atomics.load(this.#words, SETTINGS);
  }

  get #isOwed(): boolean {
    return Atomics.load(this.#words, OWED) === 1;
  }

  /** Units of 512 bytes that hold data, never fewer than there are, and whether that is the final count. */
  get allocated(): { readonly blocks: number; readonly isFinal: boolean } {
    const counted = this.#numbers[COUNTED]!;
    if (counted !== NOT_COUNTED) return { blocks: Math.ceil(counted / BLOCK), isFinal: true };
    const bytes = this.mayBeDirty ? this.size : this.#stored();
    return { blocks: Math.ceil(bytes / BLOCK), isFinal: false };
  }

  #stored(): number {
    const disk = this.#disk;
    const estimate = estimateAllocated(disk);
    if (disk.readOnly) return estimate;
    const generation = Atomics.load(this.#words, GENERATION);
    if (generation !== this.#blocksGeneration) {
      const count = new AllocationCount(disk);
      this.#blocks = count.advance(MAX_COUNT_STEPS) ? count.bytes : Math.max(estimate, count.bytes);
      this.#blocksGeneration = generation;
    }
    return this.#blocks;
  }
}
