/** What may be on a host disk after the power went: every sector as it was at the last sync, or at any time since. */

import type { Random } from '../random-guest.js';
import { type Change, type HostCall, MemoryFile } from './files.js';

const SECTOR_SIZE = 512;

/**
 * Whether a sector of an unsynced change got to the disk in time. A later change of the same sector brings along what
 * earlier ones wrote to it, for the host keeps one copy of each sector. `count` changes are unsynced.
 */
export type Survival = (index: number, count: number, sector: number) => boolean;

/** Which of the unsynced sectors survive; one after the other for successive cuts. */
export const SURVIVALS: readonly ((random: Random) => Survival)[] = [
  () => () => false,
  (random) => {
    const kept = new Map<number, boolean>();
    return (index) => {
      if (!kept.has(index)) kept.set(index, random() < 0.5);
      return kept.get(index)!;
    };
  },
  (random) => () => random() < 0.5,
  () => (index, count) => index === count - 1,
  (random) => {
    const lost = random();
    return (index, count) => index !== Math.floor(lost * count);
  },
  (random) => (index, count) => random() < (index + 1) / count,
];

/** One file, from its beginning on. */
export class CrashingFile {
  readonly #stable: MemoryFile;
  #unsynced: Change[] = [];

  constructor(content: Buffer) {
    this.#stable = new MemoryFile(content);
  }

  advance(call: HostCall): void {
    if (call.do === 'read') return;
    if (call.do !== 'sync') {
      this.#unsynced.push(call);
      return;
    }
    for (const change of this.#unsynced) this.#stable.apply(change);
    this.#unsynced = [];
  }

  afterCut(survives: Survival): Buffer {
    const shown = new MemoryFile(this.#stable.content);
    const disk = new MemoryFile(this.#stable.content);
    for (const [index, change] of this.#unsynced.entries()) {
      shown.apply(change);
      store(change, shown, disk, (sector) => survives(index, this.#unsynced.length, sector));
    }
    return disk.content;
  }
}

/** Brings the sectors of a change to the disk, as the host shows them now. */
export function store(
  change: Change,
  shown: MemoryFile,
  disk: MemoryFile,
  kept: (sector: number) => boolean,
): void {
  if (change.do === 'truncate') {
    if (kept(-1)) disk.apply(change);
    return;
  }
  const length = change.do === 'write' ? change.bytes.length : change.length;
  const end = Math.min(shown.size, change.position + length);
  const first = change.position - (change.position % SECTOR_SIZE);
  for (let position = first; position < end; position += SECTOR_SIZE) {
    if (!kept(position / SECTOR_SIZE)) continue;
    const bytes = shown.content.subarray(position, Math.min(position + SECTOR_SIZE, shown.size));
    disk.apply({ do: 'write', position, bytes });
  }
}
