/** `qemu-img map`, the oracle for what a disk is made of. */

import { type Image, keyArgs, openArgs, qemuImg } from './images.js';

/** A run as `qemu-img map --output=json` gives it. */
export interface QemuRun {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  /** QEMU before 8.2 does not tell. */
  readonly compressed?: boolean;
  readonly offset?: number;
}

/** As it is printed. */
export function qemuMap(image: Image): string {
  return qemuImg(image.dir, ['map', ...keyArgs(image), '--output=json', ...openArgs(image)]);
}

/** The runs with nothing but what QEMU 7.2 tells, merged as it merges them. */
export function comparableRuns(text: string): QemuRun[] {
  const runs: QemuRun[] = [];
  for (const { start, length, depth, present, zero, data, offset } of JSON.parse(text) as QemuRun[]) {
    const last = runs.at(-1);
    const next = { start, length, depth, present, zero, data, ...(offset === undefined ? {} : { offset }) };
    if (last !== undefined && continues(last, next)) {
      runs[runs.length - 1] = { ...last, length: last.length + length };
    } else runs.push(next);
  }
  return runs;
}

/** qemu-img.c, `entry_mergeable`. */
function continues(last: QemuRun, next: QemuRun): boolean {
  const alike = (['depth', 'present', 'zero', 'data'] as const).every((key) => last[key] === next[key]);
  return alike && next.offset === (last.offset === undefined ? undefined : last.offset + last.length);
}
