/**
 * What may be on a host disk after the power went while several threads wrote: as in crash-disk.ts, but a sync reaches
 * no more than the changes that had ended when it began, wherever they stand among those that it does not reach.
 */
import { type Survival, store } from '../support/crash/disk.js';
import { type Change, MemoryFile } from '../support/crash/files.js';
import type { Recorded } from './shared-file.js';

interface Step {
  readonly change: Change;
  readonly applied: number;
  /** When the first sync that reaches it has returned. */
  readonly stable: number;
}

/** One file, from its beginning on. */
export class ReplayedFile {
  readonly #base: MemoryFile;
  readonly #steps: readonly Step[];
  #moment = 0;
  /** Steps that are part of `#base`. */
  #folded = 0;

  /** @param log of this file alone, in the order in which it shows */
  constructor(content: Buffer, log: readonly Recorded[]) {
    this.#base = new MemoryFile(content);
    const syncs = log.filter((call) => call.change === undefined);
    this.#steps = log.flatMap((call) => {
      if (call.change === undefined) return [];
      const reaching = syncs.filter((sync) => sync.start > call.end).map((sync) => sync.end);
      const stable = reaching.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
      return [{ change: call.change, applied: call.applied, stable }];
    });
  }

  /** The power goes at this moment; never an earlier one than before. */
  advance(moment: number): void {
    this.#moment = moment;
    for (; this.#folded < this.#steps.length; this.#folded++) {
      const { change, stable } = this.#steps[this.#folded]!;
      if (stable > moment) return;
      this.#base.apply(change);
    }
  }

  afterCut(survives: Survival): Buffer {
    const shown = new MemoryFile(this.#base.content);
    const disk = new MemoryFile(this.#base.content);
    const steps = this.#steps.slice(this.#folded).filter(({ applied }) => applied <= this.#moment);
    const count = steps.filter(({ stable }) => stable > this.#moment).length;
    let index = 0;
    for (const { change, stable } of steps) {
      shown.apply(change);
      if (stable <= this.#moment) {
        store(change, shown, disk, () => true);
        continue;
      }
      const unsynced = index++;
      store(change, shown, disk, (sector) => survives(unsynced, count, sector));
    }
    return disk.content;
  }
}
