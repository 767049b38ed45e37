/**
 * Small writes to files that Linux caches in large folios. For every write, however small, ext4 walks twice along a
 * list with an entry for each block of the folio: 31 us for a folio of 2 MiB, where 3 us would do. A folio that is
 * clean is split by advice on a part of it (madvise(2), MADV_COLD). That changes how the cache keeps the pages and
 * nothing else, and no memory of the mapping is ever touched, so whatever happens to the file cannot hurt.
 */
import fs from '../fs.js';
import { type Foreign, foreign } from './libc.js';
import { addressOf } from './memory.js';

/** A write that takes longer may have met a large folio: milliseconds. */
const SLOW = 0.012;
/** What a slow write adds to the suspicion that there are some, and how much makes it a certainty; a fast one takes 1. */
const SUSPICION = 64;
const CERTAINTY = 256;
const MAX_SUSPICION = 1024;
/** As many tries that made no write faster are enough for a while: the folios are dirty, or writing takes its time anyway. */
const VAIN = 32;
/** That while, after which what was dirty may be clean: milliseconds. */
const INTERVAL = 2000;
/** Bytes that are one place, tried once in a while; places that are told apart. */
const PLACE_BYTES = 1024 * 1024;
const PLACES = 16_384;

const EXT4_MAGIC = 0xef53;
const PAGE_BYTES = 4096;
const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_COLD = 20;
const MADV_POPULATE_READ = 22;
const IS_RESIDENT = 1;

interface Calls {
  readonly mmap: Foreign;
  readonly munmap: Foreign;
  readonly mincore: Foreign;
  readonly madvise: Foreign;
}

let calls: Calls | undefined;

export class LargeFolios {
  readonly #fd: number;
  /** Undefined until it matters. */
  #isExt4: boolean | undefined;
  /** The place that was tried last, of those that share the entry; one more than its number. */
  #tried: Uint32Array | undefined;
  #suspicion = 0;
  #hasTried = false;
  #vain = 0;
  /** When it all began anew: milliseconds. */
  #since = 0;
  #began = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** A few KiB are about to be written at `position`. */
  beforeWrite(position: number): void {
    this.#hasTried = false;
    this.#began = performance.now();
    if (this.#suspicion >= CERTAINTY && this.#vain < VAIN) this.#trySplitting(position);
  }

  /** They were. */
  afterWrite(): void {
    const now = performance.now();
    const isSlow = now - this.#began > SLOW;
    if (isSlow) this.#suspicion = Math.min(MAX_SUSPICION, this.#suspicion + SUSPICION);
    else if (this.#suspicion > 0) this.#suspicion--;
    if (this.#hasTried) {
      this.#vain = isSlow ? this.#vain + 1 : 0;
    }
    if (now - this.#since > INTERVAL) this.#beginAnew(now);
  }

  #beginAnew(now: number): void {
    this.#since = now;
    this.#vain = 0;
    this.#tried?.fill(0);
  }

  #trySplitting(position: number): void {
    this.#isExt4 ??= isOnExt4(this.#fd);
    if (!this.#isExt4) return;
    this.#tried ??= new Uint32Array(PLACES);
    const place = Math.floor(position / PLACE_BYTES);
    if (this.#tried[place % PLACES] === place + 1) return;
    this.#tried[place % PLACES] = place + 1;
    try {
      splitFolio(this.#fd, position);
    } catch {
      // No such calls here: the write goes on without them.
      this.#isExt4 = false;
    }
    this.#hasTried = true;
    this.#began = performance.now();
  }
}

const resident = new Uint8Array(1);

/**
 * Splits the folio that holds the byte at `position`, if it is cached and clean.
 * @throws Qcow2fsError `internal`, or an error of koffi, where the calls do not exist
 */
export function splitFolio(fd: number, position: number): void {
  calls ??= {
    mmap: foreign(
      'int64_t mmap(uint64_t address, uint64_t length, int access, int flags, int fd, int64_t at)',
    ),
    munmap: foreign('int munmap(uint64_t address, uint64_t length)'),
    mincore: foreign('int mincore(uint64_t address, uint64_t length, uint64_t resident)'),
    madvise: foreign('int madvise(uint64_t address, uint64_t length, int advice)'),
  };
  const start = position - (position % PAGE_BYTES);
  const page = calls.mmap(0, PAGE_BYTES, PROT_READ, MAP_SHARED, fd, start);
  if (page < 0) return;
  // The advice is for pages that are mapped, and a page that is not cached would be read from the disk first.
  const isCached =
    calls.mincore(page, PAGE_BYTES, addressOf(resident, 0)) === 0 && (resident[0]! & IS_RESIDENT) !== 0;
  if (isCached && calls.madvise(page, PAGE_BYTES, MADV_POPULATE_READ) === 0) {
    calls.madvise(page, PAGE_BYTES, MADV_COLD);
  }
  calls.munmap(page, PAGE_BYTES);
}

function isOnExt4(fd: number): boolean {
  try {
    return process.platform === 'linux' && fs.statfsSync(`/proc/self/fd/${fd}`).type === EXT4_MAGIC;
  } catch {
    return false;
  }
}
