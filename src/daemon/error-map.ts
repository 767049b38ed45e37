/** The error map of a mount: what could not be read so far, written a moment after it changes. */
import { DamagedRanges } from '../damaged-ranges.js';
import { toErrorRecord } from '../errors.js';
import { ErrorMapFile } from '../host/error-map-file.js';
import type { Loss } from '../salvage.js';
import { log } from './log.js';

/** Changes within this time are written together: milliseconds. */
const DELAY = 1000;

export class MountErrorMap {
  readonly #file: ErrorMapFile;
  readonly #ranges = new DamagedRanges();
  #timer: NodeJS.Timeout | undefined;
  #isDirty = false;
  #hasFailed = false;

  /** @throws Qcow2fsError `host-io` when the file cannot be made */
  constructor(path: string, image: string, snapshot: string | undefined, size: number) {
    this.#file = new ErrorMapFile(path, image, snapshot, size);
  }

  readonly add = (losses: readonly Loss[]): void => {
    for (const { offset, length, coarse } of losses) {
      if (this.#ranges.add(offset, length, coarse)) this.#isDirty = true;
    }
    if (this.#isDirty) this.#timer ??= setTimeout(() => this.save(), DELAY);
  };

  /** Writes what is not written yet. A failure is logged, and does not end the mount. */
  save(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#isDirty) return;
    try {
      this.#file.write(this.#ranges, 0);
      this.#isDirty = false;
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) log(toErrorRecord(error).message);
      this.#hasFailed = true;
    }
  }

  /** The disk was not mounted after all. */
  discard(): void {
    this.#file.discard();
  }
}
