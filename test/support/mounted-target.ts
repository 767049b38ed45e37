import fs from 'node:fs';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
} from '../../src/host/libc.js';
import type { Random, Target } from './random-guest.js';

export interface MountedTarget extends Target {
  close(): void;
}

/** A mounted disk as the random guest sees it: every other access goes past the page cache. */
export function openMounted(disk: string, random: Random): MountedTarget {
  const { O_RDWR, O_DIRECT } = fs.constants;
  const buffered = fs.openSync(disk, O_RDWR);
  const direct = fs.openSync(disk, O_RDWR | O_DIRECT);
  const either = (): number => (random() < 0.5 ? buffered : direct);
  return {
    size: fs.fstatSync(buffered).size,
    read(target, length, offset) {
      const read = fs.readSync(either(), target, 0, length, offset);
      if (read !== length) throw new Error(`${read} of ${length} bytes read at ${offset}`);
    },
    write(source, length, offset) {
      const written = fs.writeSync(either(), source, 0, length, offset);
      if (written !== length) throw new Error(`${written} of ${length} bytes written at ${offset}`);
    },
    discard: (offset, length) =>
      fallocate(buffered, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length),
    zero: (offset, length) => fallocate(buffered, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length),
    flush: () => fs.fdatasyncSync(buffered),
    close() {
      fs.closeSync(direct);
      fs.closeSync(buffered);
    },
  };
}
