/**
 * Sets size and times in the kernel where it does not ask for them: see fuse/inode.ts for who owns what. Finds the mount
 * by its ID, never by its path.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { hostReason } from '../errors.js';
import fs from '../fs.js';
import type { DiskFs } from '../fuse/disk-fs.js';
import { setModificationTime, setSize } from '../host/disk-programs.js';
import { type Held, openRoot } from '../host/mounts.js';
import type { FailureLog } from './log.js';
import type { OwnMount } from './session.js';

/** How long a close waits at most for its time: milliseconds. The program that sets it has ended before. */
const PATIENCE = 1500;
/** How long a program may write past the page cache before the modification time shows it: milliseconds. */
const INTERVAL = 1000;

export class KernelInode {
  readonly #mount: OwnMount;
  readonly #image: string;
  readonly #name: string | undefined;
  readonly #fs: DiskFs;
  readonly #failures: FailureLog;
  #isRestoring = false;
  #isOverrun = false;
  #telling: Promise<void> = Promise.resolve();

  /** @param name of the disk in the directory that is mounted; undefined where the disk is the root */
  constructor(
    mount: OwnMount,
    image: string,
    name: string | undefined,
    diskFs: DiskFs,
    failures: FailureLog,
  ) {
    this.#mount = mount;
    this.#image = image;
    this.#name = name;
    this.#fs = diskFs;
    this.#failures = failures;
    setInterval(() => this.#tellOwed(), INTERVAL).unref();
  }

  /** Those of the root of a file system are zero in a kernel that caches writes, until they are set. */
  async show(): Promise<void> {
    const { size, times } = this.#fs.inode;
    await this.#change(async (root) => {
      await setSize(root, this.#name, size);
      await setModificationTime(root, this.#name, times.mtime);
    });
  }

  /**
   * The page cache took bytes beyond the end of a disk that keeps its size. They were refused, and the kernel goes on
   * with the wrong size. There is nothing to lose beyond the end.
   */
  readonly restoreSize = (): void => {
    this.#failures.note(
      `${this.#image}: bytes beyond the end of the disk were refused; fsync(2) tells the program`,
    );
    this.#isOverrun = true;
    if (!this.#isRestoring) void this.#restore();
  };

  /** Sends a reply once the modification time is set, or after `PATIENCE`: a close has to end. */
  readonly sendLater = (fd: number, reply: Uint8Array): void => {
    this.#tellOwed();
    void Promise.race([this.#telling, delay(PATIENCE, undefined, { ref: false })]).then(() =>
      send(fd, reply),
    );
  };

  /**
   * The time is now: the kernel's own may be later than the write. A program that sets a time in between wins, for the
   * kernel hands over one after the other.
   */
  #tellOwed(): void {
    const { inode } = this.#fs;
    if (!inode.awaitsTime) return;
    this.#telling = this.#telling.then(async () => {
      const now = BigInt(Date.now()) * 1_000_000n;
      inode.beginTelling(now);
      try {
        if (inode.takeOwedTime()) await this.#change((root) => this.#tell(root, now));
      } finally {
        inode.endTelling();
      }
    });
  }

  async #tell(root: Held, mtime: bigint): Promise<void> {
    try {
      await setModificationTime(root, this.#name, mtime);
    } catch (error) {
      if (!this.#fs.inode.isOutdated(mtime)) throw error;
    }
  }

  async #restore(): Promise<void> {
    this.#isRestoring = true;
    while (this.#isOverrun) {
      this.#isOverrun = false;
      // It may be told the error of the write that was refused when it closes the disk.
      await this.#change((root) => setSize(root, this.#name, this.#fs.disk.size).catch(() => {}));
    }
    this.#isRestoring = false;
  }

  async #change(action: (root: Held) => Promise<void>): Promise<void> {
    let root: Held | undefined;
    try {
      const { entry } = this.#mount;
      // Nobody can look any more.
      if (entry === undefined) return;
      root = openRoot(entry);
      await action(root);
    } catch (error) {
      this.#failures.note(`${this.#image}: the time of the disk could not be set: ${hostReason(error)}`);
    } finally {
      root?.close();
    }
  }
}

function send(fd: number, reply: Uint8Array): void {
  try {
    fs.writeSync(fd, reply);
  } catch {
    // The file system was unmounted, or whoever asked has gone.
  }
}
