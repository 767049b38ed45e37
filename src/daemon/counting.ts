/**
 * How much of a read-only disk holds data, for `du` and its like. A small disk is counted before it is mounted, a large
 * one while it is there already; until then what it takes of the host must do.
 */
import { AllocationCount, type Disk, estimateAllocated } from '../disk.js';
import { setCounted } from '../fuse/inode.js';

/** How long somebody who waits for the mount waits for it: milliseconds. */
const PATIENCE = 5;
/** When the rest begins: whoever mounts a disk wants something else of it first. Milliseconds. */
const DELAY = 1000;
/** Runs that are looked at at a time then, later, and in all. */
const FIRST_STEPS = 50;
const STEPS = 500;
const MAX_STEPS = 500_000;

export class BlockCount {
  readonly #inode: SharedArrayBuffer;
  readonly #disk: Disk;
  readonly #count: AllocationCount;
  readonly #isDone: boolean;
  #start: NodeJS.Timeout | undefined;
  #next: NodeJS.Immediate | undefined;

  /**
   * Counts what there is quickly.
   * @param inode of `allocateInode`: gets the count
   */
  constructor(disk: Disk, inode: SharedArrayBuffer) {
    this.#disk = disk;
    this.#inode = inode;
    this.#count = new AllocationCount(disk);
    const end = performance.now() + PATIENCE;
    let isDone = false;
    while (!isDone && performance.now() < end) isDone = this.#count.advance(FIRST_STEPS);
    this.#isDone = isDone;
    if (isDone) setCounted(this.#inode, this.#count.bytes);
  }

  /** Counts the rest, between other things that the thread has to do. */
  start(): void {
    if (!this.#isDone) this.#start = setTimeout(() => this.#goOn(MAX_STEPS), DELAY);
  }

  /** To be called before the disk is closed. */
  stop(): void {
    clearTimeout(this.#start);
    clearImmediate(this.#next);
  }

  #goOn(steps: number): void {
    this.#next = setImmediate(() => {
      try {
        if (this.#count.advance(STEPS)) setCounted(this.#inode, this.#count.bytes);
        else if (steps > STEPS) this.#goOn(steps - STEPS);
        else setCounted(this.#inode, estimateAllocated(this.#disk));
      } catch {
        // The host fails: who reads the disk is told. The estimate stays, and nobody remembers it for long.
      }
    });
  }
}
