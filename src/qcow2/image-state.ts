/**
 * The numbers of an image that change while it is written, in shared memory. Numbers are guarded by the image's lock;
 * flags are atomic.
 */
import { Qcow2fsError } from '../errors.js';

const NUMBERS = [
  'diskSize',
  'l1Size',
  'l1FileSize',
  'l1Offset',
  'tableOffset',
  'tableSize',
  'firstFree',
  'fileEnd',
  'tableChanges',
  'headerSize',
  'toldSize',
  'clearedTo',
] as const;
const DISK_SIZE = 0;
const L1_SIZE = 1;
const L1_FILE_SIZE = 2;
const L1_OFFSET = 3;
const TABLE_OFFSET = 4;
const TABLE_SIZE = 5;
const FIRST_FREE = 6;
const FILE_END = 7;
const TABLE_CHANGES = 8;
const HEADER_SIZE = 9;
const TOLD_SIZE = 10;
const CLEARED_TO = 11;

const CHANGED = 0;
const TOUCHED = 1;
const FROZEN = 2;
const UNPINNED = 3;
const DRAINING = 4;
const SETTLED = 5;
const THREADS = 6;
/** What each thread counts, in a cache line of its own as long as there are not more threads: words of a line. */
const PINS = 0;
const UNSYNCED = 1;
const LINE = 16;
const FIRST_LINE = 16;
const LINES = 64;
const FLAGS = FIRST_LINE + LINES * LINE;

const CORRUPT = 1;
const LOST = 2;

export interface SharedImageState {
  readonly numbers: SharedArrayBuffer;
  readonly flags: SharedArrayBuffer;
}

/** Where an image's numbers start. */
export type InitialState = Readonly<Record<(typeof NUMBERS)[number], number>>;

export function allocateImageState(initial: InitialState): SharedImageState {
  const numbers = new SharedArrayBuffer(NUMBERS.length * Float64Array.BYTES_PER_ELEMENT);
  new Float64Array(numbers).set(NUMBERS.map((name) => initial[name]));
  return { numbers, flags: new SharedArrayBuffer(FLAGS * Int32Array.BYTES_PER_ELEMENT) };
}

export class ImageState {
  readonly #numbers: Float64Array;
  readonly #flags: Int32Array;
  /** Of this thread. */
  readonly #line: number;

  constructor(shared: SharedImageState) {
    this.#numbers = new Float64Array(shared.numbers);
    this.#flags = new Int32Array(shared.flags);
    this.#line = FIRST_LINE + LINE * (Atomics.add(this.#flags, THREADS, 1) % LINES);
  }

  /** Bytes of the guest disk. */
  get diskSize(): number {
    return this.#numbers[DISK_SIZE]!;
  }
  set diskSize(bytes: number) {
    this.#numbers[DISK_SIZE] = bytes;
  }

  /** Entries of the L1 table that map the disk. */
  get l1Size(): number {
    return this.#numbers[L1_SIZE]!;
  }
  set l1Size(entries: number) {
    this.#numbers[L1_SIZE] = entries;
  }

  /** Entries of the L1 table in the file: it may have more, for the state of a virtual machine. */
  get l1FileSize(): number {
    return this.#numbers[L1_FILE_SIZE]!;
  }
  set l1FileSize(entries: number) {
    this.#numbers[L1_FILE_SIZE] = entries;
  }

  /** Host offset of the active L1 table. */
  get l1Offset(): number {
    return this.#numbers[L1_OFFSET]!;
  }
  set l1Offset(offset: number) {
    this.#numbers[L1_OFFSET] = offset;
  }

  /** Host offset of the refcount table. */
  get tableOffset(): number {
    return this.#numbers[TABLE_OFFSET]!;
  }
  set tableOffset(offset: number) {
    this.#numbers[TABLE_OFFSET] = offset;
  }

  /** Entries of the refcount table in the file. */
  get tableSize(): number {
    return this.#numbers[TABLE_SIZE]!;
  }
  set tableSize(entries: number) {
    this.#numbers[TABLE_SIZE] = entries;
  }

  /** No host cluster before this one is free. */
  get firstFree(): number {
    return this.#numbers[FIRST_FREE]!;
  }
  set firstFree(cluster: number) {
    this.#numbers[FIRST_FREE] = cluster;
  }

  /** Bytes, whole clusters: what lies beyond was never written and reads as zeros. */
  get fileEnd(): number {
    return this.#numbers[FILE_END]!;
  }
  set fileEnd(bytes: number) {
    this.#numbers[FILE_END] = bytes;
  }

  /** How often L2 tables in the file changed, or which of them map the disk. */
  get tableChanges(): number {
    return this.#numbers[TABLE_CHANGES]!;
  }
  set tableChanges(count: number) {
    this.#numbers[TABLE_CHANGES] = count;
  }

  /** Bytes of the guest disk as the header in the file has them. */
  get headerSize(): number {
    return this.#numbers[HEADER_SIZE]!;
  }
  set headerSize(bytes: number) {
    this.#numbers[HEADER_SIZE] = bytes;
  }

  /** Bytes of the guest disk as the next commit writes them into the header. */
  get toldSize(): number {
    return this.#numbers[TOLD_SIZE]!;
  }
  set toldSize(bytes: number) {
    this.#numbers[TOLD_SIZE] = bytes;
  }

  /** Guest offset: between the size in the header and this nothing is left from before the disk grew. */
  get clearedTo(): number {
    return this.#numbers[CLEARED_TO]!;
  }
  set clearedTo(offset: number) {
    this.#numbers[CLEARED_TO] = offset;
  }

  /** Metadata differs from the file. */
  get changed(): boolean {
    return this.#get(CHANGED);
  }
  set changed(value: boolean) {
    this.#set(CHANGED, value);
  }

  /** KiB of data that were written since the last sync, roughly; 0 only when there is none. */
  get unsyncedKib(): number {
    let sum = 0;
    for (let line = FIRST_LINE; line < FLAGS; line += LINE)
      sum += Atomics.load(this.#flags, line + UNSYNCED) >>> 0;
    return sum;
  }

  /** To be told after a write of data, so that a flush that did not see it did not have to. */
  wrote(bytes: number): void {
    Atomics.add(this.#flags, this.#line + UNSYNCED, 1 + (bytes >>> 10));
  }

  /** To be told before a sync. */
  syncing(): void {
    for (let line = FIRST_LINE; line < FLAGS; line += LINE) Atomics.store(this.#flags, line + UNSYNCED, 0);
  }

  /** The disk was changed since it was opened: whatever must not outlive that says so in the file. */
  get touched(): boolean {
    return this.#get(TOUCHED);
  }
  set touched(value: boolean) {
    this.#set(TOUCHED, value);
  }

  /**
   * Host bytes that a lookup found are about to be read or written: call it under the lock of that lookup, which may be
   * released then. What the disk gives up from now on is not used for anything else until `unpin`.
   */
  pin(): void {
    Atomics.add(this.#flags, this.#line + PINS, 1);
  }

  unpin(): void {
    Atomics.sub(this.#flags, this.#line + PINS, 1);
    if (Atomics.load(this.#flags, DRAINING) === 0) return;
    Atomics.add(this.#flags, UNPINNED, 1);
    Atomics.notify(this.#flags, UNPINNED);
  }

  /**
   * Waits until nothing is pinned; nobody pins anything while the caller has the exclusive lock. Only reads and writes
   * of the host are pinned, never what waits for a lock.
   * @param patience milliseconds
   * @returns false when they take longer
   */
  drainPins(patience: number): boolean {
    const deadline = Date.now() + patience;
    Atomics.store(this.#flags, DRAINING, 1);
    try {
      for (;;) {
        const unpinned = Atomics.load(this.#flags, UNPINNED);
        if (!this.#isPinned()) return true;
        const left = deadline - Date.now();
        if (left <= 0) return false;
        Atomics.wait(this.#flags, UNPINNED, unpinned, left);
      }
    } finally {
      Atomics.store(this.#flags, DRAINING, 0);
    }
  }

  /** How often what the disk gave up has been released for other uses. */
  get settled(): number {
    return Atomics.load(this.#flags, SETTLED);
  }

  settle(): void {
    Atomics.add(this.#flags, SETTLED, 1);
  }

  /** The image turned out to be damaged: nothing more is written. */
  freezeCorrupt(): void {
    Atomics.compareExchange(this.#flags, FROZEN, 0, CORRUPT);
  }

  /**
   * A sync failed. The host may have dropped what was written, says so only once, and keeps no record of what it was;
   * so nothing that builds on it may follow.
   */
  freezeLost(): void {
    Atomics.compareExchange(this.#flags, FROZEN, 0, LOST);
  }

  get frozen(): boolean {
    return this.#get(FROZEN);
  }

  /** @throws Qcow2fsError `corrupt` or `host-io` when nothing more may be written */
  refuseFrozen(): void {
    const reason = Atomics.load(this.#flags, FROZEN);
    if (reason === CORRUPT) {
      throw new Qcow2fsError(
        'corrupt',
        'the image turned out to be damaged while it was mounted and takes no more writes; unmount it and look: qcow2fs check',
      );
    }
    if (reason === LOST) {
      throw new Qcow2fsError(
        'host-io',
        'a sync of the image failed: what was written since the last one may be lost, and nothing more is written; unmount it and mount it again',
      );
    }
  }

  #isPinned(): boolean {
    for (let line = FIRST_LINE; line < FLAGS; line += LINE) {
      if (Atomics.load(this.#flags, line + PINS) !== 0) return true;
    }
    return false;
  }

  #get(flag: number): boolean {
    return Atomics.load(this.#flags, flag) !== 0;
  }

  #set(flag: number, value: boolean): void {
    Atomics.store(this.#flags, flag, value ? 1 : 0);
  }
}
