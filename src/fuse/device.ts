/** One thread's end of /dev/fuse: waits for requests and sends replies. Who waits when: see lookout.ts. */
import { availableParallelism } from 'node:os';
import { errnoName } from '../errors.js';
import fs from '../fs.js';
import { isReadable, pollNext, readNext, writeNext } from '../host/io.js';
import type { Lookout } from './lookout.js';
import { cloneDevice } from './mount-linux.js';

/** A request that came within this time after the last answer belongs to a program that waits for each: milliseconds. */
const SOON = 1;
/** What takes longer is done while other threads wait for what comes next, since waking them takes less: milliseconds. */
const LONG = 0.1;
/** Requests in a row that came soon and alone, before a thread becomes the lookout. */
const ENOUGH = 64;
/** After so many requests the lookout asks whether the next one waits already. */
const ASKING = 16;
/** Times in a row that one did: there is work for others. */
const BACKLOG = 3;

/** Bits of work that a thread does at a time without a request: that the end has come it learns when it sleeps. */
const AHEAD = 16;

/** Unmounted, or the connection was aborted. */
const ENDED: ReadonlySet<string | undefined> = new Set(['ENODEV', 'ECONNABORTED']);
/** A request that was interrupted before it was read, or whose caller went away before the reply. */
const HARMLESS: ReadonlySet<string | undefined> = new Set(['ENOENT', 'EINTR', 'EAGAIN']);

/** What `receive` returns when the file system is unmounted. */
export const UNMOUNTED = -1;
const NOTHING = -1;

/** What a thread without requests may do: the part of `Disk` that works ahead. */
export interface IdleWork {
  readonly canReadAhead: boolean;
  readAhead(): void;
}

export class FuseDevice {
  readonly #fd: number;
  /** The same requests through a descriptor that does not block; undefined where there cannot be one. */
  readonly #polled: number | undefined;
  /** Where the latest request came from: the reply goes the same way. */
  #source: number;
  readonly #request: Buffer;
  readonly #lookout: Lookout;
  readonly #idleWork: IdleWork;
  #isBusy = false;
  /** When the latest request came: milliseconds. */
  #began = 0;
  /** Requests in a row that came soon and alone, about. */
  #lonely = 0;
  /** Requests that this thread got. */
  #count = 0;
  /** Times in a row that the next request waited already. */
  #waiting = 0;

  /**
   * @param fd /dev/fuse, blocking
   * @param request where requests are put; `REQUEST_BYTES`
   */
  constructor(fd: number, request: Buffer, lookout: Lookout, idleWork: IdleWork) {
    this.#fd = fd;
    this.#source = fd;
    this.#request = request;
    this.#lookout = lookout;
    this.#idleWork = idleWork;
    // On a single processor nobody can send a request while this thread works ahead.
    this.#polled = availableParallelism() > 1 ? cloneDevice(fd) : undefined;
  }

  /** @returns bytes of the next request; 0 for one that was taken back, `UNMOUNTED` when there will be none */
  receive(): number {
    this.#endRequest();
    if (this.#isLone && !this.#lookout.take()) this.#lookout.stayAway();
    let length = NOTHING;
    if (this.#polled !== undefined) length = this.#workAhead(this.#polled);
    if (length === NOTHING) length = this.#sleep();
    this.#beginRequest();
    return length;
  }

  /** @param reply its first `length` bytes */
  send(reply: Buffer, length: number): void {
    // The next request may come before the call returns.
    this.#endRequest();
    try {
      writeNext(this.#source, reply, length);
    } catch (error) {
      const code = errnoName(error);
      // That there is nobody any more is told by the next `receive`.
      if (!HARMLESS.has(code) && !ENDED.has(code)) throw error;
    }
  }

  /** Somebody else sends the reply. @returns the descriptor by which it has to go */
  leave(): number {
    this.#endRequest();
    return this.#source;
  }

  close(): void {
    this.#endRequest();
    this.#lookout.call();
    if (this.#polled !== undefined) fs.closeSync(this.#polled);
  }

  /** Probably there is one program that sends requests, and it waits for each answer. */
  get #isLone(): boolean {
    return this.#lonely >= ENOUGH;
  }

  #beginRequest(): void {
    this.#isBusy = true;
    this.#began = performance.now();
    const idle = this.#lookout.begin();
    if (idle < 0 || this.#hasBacklog()) this.#shareWork();
    else if (idle > SOON) this.#forgetHalf();
    else if (this.#lonely < 2 * ENOUGH) this.#lonely++;
  }

  #endRequest(): void {
    if (!this.#isBusy) return;
    this.#isBusy = false;
    this.#lookout.end();
    if (performance.now() - this.#began > LONG) this.#shareWork();
  }

  #hasBacklog(): boolean {
    this.#count = (this.#count + 1) % ASKING;
    if (!this.#isLone || this.#count !== 0) return false;
    this.#waiting = isReadable(this.#source) ? this.#waiting + 1 : 0;
    return this.#waiting >= BACKLOG;
  }

  /** One late request is no reason to call the others; a few are. */
  #forgetHalf(): void {
    const wasLone = this.#isLone;
    this.#lonely >>= 1;
    if (wasLone && !this.#isLone) this.#lookout.call();
  }

  /** From now on all threads sleep until they are woken. */
  #shareWork(): void {
    if (this.#isLone) this.#lookout.call();
    this.#lonely = 0;
    this.#waiting = 0;
  }

  /** Does what may be wanted soon, a bit at a time, until there is a request or no more to do. */
  #workAhead(polled: number): number {
    for (let steps = 0; steps < AHEAD && this.#idleWork.canReadAhead; steps++) {
      this.#source = polled;
      const length = pollNext(polled, this.#request);
      if (length !== NOTHING) return length;
      this.#idleWork.readAhead();
    }
    return NOTHING;
  }

  #sleep(): number {
    this.#source = this.#fd;
    try {
      return readNext(this.#fd, this.#request);
    } catch (error) {
      const code = errnoName(error);
      if (ENDED.has(code)) return UNMOUNTED;
      if (HARMLESS.has(code)) return 0;
      throw error;
    }
  }
}
