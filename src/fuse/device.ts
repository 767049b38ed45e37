/** One thread's end of /dev/fuse: waits for requests and sends replies. How it waits: see lookout.ts. */
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import { errnoName } from '../errors.js';
import { pollNext, readNext, writeNext } from '../host/io.js';
import type { Lookout } from './lookout.js';
import { cloneDevice } from './mount-linux.js';

/** How long the lookout looks for the next request: milliseconds. Falling asleep and waking up take about half of it. */
const PATIENCE = 0.1;
/** Requests in a row that came alone, and within that time after the last answer, before a thread becomes the lookout. */
const ENOUGH = 64;
/** Requests in a row that the lookout found waiting: there is work for others. */
const BACKLOG = 64;

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
  /** Requests in a row that were there at the first look. */
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
    // On a single processor nobody can send a request while this thread looks for one.
    this.#polled = availableParallelism() > 1 ? cloneDevice(fd) : undefined;
  }

  /** @returns bytes of the next request; 0 for one that was taken back, `UNMOUNTED` when there will be none */
  receive(): number {
    this.#endRequest();
    let length = NOTHING;
    if (this.#lonely >= ENOUGH && this.#polled !== undefined) {
      if (this.#lookout.take()) length = this.#look(this.#polled);
      else this.#lookout.stayAway();
    }
    if (length === NOTHING && this.#polled !== undefined) length = this.#workAhead(this.#polled);
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

  close(): void {
    this.#endRequest();
    this.#lookout.call();
    if (this.#polled !== undefined) fs.closeSync(this.#polled);
  }

  #beginRequest(): void {
    this.#isBusy = true;
    this.#began = performance.now();
    const idle = this.#lookout.begin();
    if (idle < 0) this.#shareWork();
    else if (idle > PATIENCE) this.#forgetHalf();
    else if (this.#lonely < 2 * ENOUGH) this.#lonely++;
  }

  #endRequest(): void {
    if (!this.#isBusy) return;
    this.#isBusy = false;
    this.#lookout.end();
    // What takes longer than waking up another thread is better done by several.
    if (performance.now() - this.#began > PATIENCE) this.#shareWork();
  }

  /** One late request is no reason to sleep from now on; a few are. */
  #forgetHalf(): void {
    this.#lonely >>= 1;
    if (this.#lonely < ENOUGH) this.#lookout.leave();
  }

  /** From now on all threads sleep until they are woken. */
  #shareWork(): void {
    if (this.#lonely >= ENOUGH) this.#lookout.call();
    this.#lonely = 0;
    this.#waiting = 0;
  }

  #look(polled: number): number {
    this.#source = polled;
    const end = performance.now() + PATIENCE;
    let length = pollNext(polled, this.#request);
    this.#waiting = length === NOTHING ? 0 : this.#waiting + 1;
    while (length === NOTHING && performance.now() < end) {
      length = pollNext(polled, this.#request);
    }
    if (this.#waiting === BACKLOG) this.#shareWork();
    else if (length === NOTHING) this.#lookout.leave();
    return length;
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
