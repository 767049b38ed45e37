import type { Disk } from '../../src/disk.js';
import type { Target } from './random-guest.js';

/** A disk as the random guest sees it. */
export function targetOf(disk: Disk): Target {
  return {
    size: disk.size,
    read: (target, length, offset) => disk.read(target, 0, length, offset),
    write: (source, length, offset) => disk.write(source, 0, length, offset),
    discard: (offset, length) => disk.discard(offset, length),
    zero: (offset, length) => disk.zero(offset, length),
    flush: () => disk.flush(),
  };
}
