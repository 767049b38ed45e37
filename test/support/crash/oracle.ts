/** The reference tools' judgement of images whose writer died. */
import fs from 'node:fs';
import { convertToRaw, type Image, keyArgs, openArgs } from '../images.js';
import { spawnProgram } from '../spawn.js';

export interface CheckResult {
  readonly corruptions: number;
  readonly leaks: number;
  readonly errors: number;
  /** What the tool printed, when that was more than its verdict. */
  readonly report: string;
}

/** Exit statuses of qemu-img check: clean, corruptions, leaks. */
const JUDGED = new Set<number | null>([0, 2, 3]);

/** `qemu-img check`, and `-r leaks` when asked to mend. @throws when it cannot judge the image at all */
export function checkImage(image: Image, mend = false): CheckResult {
  const args = ['check', '--output=json', ...(mend ? ['-r', 'leaks'] : []), ...keyArgs(image)];
  const { status, stdout, stderr } = spawnProgram('qemu-img', [...args, ...openArgs(image)], {
    cwd: image.dir,
  });
  if (!JUDGED.has(status)) throw new Error(`qemu-img check ends with ${status}: ${stderr.trim()}`);
  const found = JSON.parse(stdout.slice(stdout.indexOf('{'))) as Record<string, number | undefined>;
  return {
    corruptions: found['corruptions'] ?? 0,
    leaks: found['leaks'] ?? 0,
    errors: found['check-errors'] ?? 0,
    report: `${stdout}${stderr}`,
  };
}

/** @returns what is wrong with the image, leaks apart */
export function corruptionOf(image: Image): string | undefined {
  const { corruptions, errors, report } = checkImage(image);
  return corruptions + errors === 0 ? undefined : `the reference finds corruption: ${report.slice(0, 2000)}`;
}

/** What qemu-img convert reads. */
export function convertedContent(image: Image): Buffer {
  return fs.readFileSync(convertToRaw(image, 'converted.raw'));
}
