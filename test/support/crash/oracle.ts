/** The reference tools' judgement of images whose writer died. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { type Image, keyArgs, openArgs } from '../images.js';

export interface CheckResult {
  readonly corruptions: number;
  readonly leaks: number;
  readonly errors: number;
  /** What the tool printed, when that was more than its verdict. */
  readonly report: string;
}

/** Exit statuses of qemu-img check: clean, corruptions, leaks. */
const JUDGED = new Set([0, 2, 3]);

/** `qemu-img check`, and `-r leaks` when asked to mend. @throws when it cannot judge the image at all */
export function checkImage(image: Image, mend = false): Promise<CheckResult> {
  const args = ['check', '--output=json', ...(mend ? ['-r', 'leaks'] : [])];
  return new Promise((resolve, reject) => {
    const all = [...args, ...keyArgs(image), ...openArgs(image)];
    const child = execFile('qemu-img', all, { cwd: image.dir }, (_error, stdout, stderr) => {
      if (!JUDGED.has(child.exitCode ?? -1)) {
        reject(new Error(`qemu-img check ends with ${child.exitCode}: ${stderr.trim()}`));
        return;
      }
      const found = JSON.parse(stdout.slice(stdout.indexOf('{'))) as Record<string, number | undefined>;
      resolve({
        corruptions: found['corruptions'] ?? 0,
        leaks: found['leaks'] ?? 0,
        errors: found['check-errors'] ?? 0,
        report: `${stdout}${stderr}`,
      });
    });
  });
}

/** @returns what is wrong with the image, leaks apart */
export async function corruptionOf(image: Image): Promise<string | undefined> {
  const { corruptions, errors, report } = await checkImage(image);
  return corruptions + errors === 0 ? undefined : `the reference finds corruption: ${report.slice(0, 2000)}`;
}

/** What qemu-img convert reads. */
export function convertedContent(image: Image): Promise<Buffer> {
  const args = ['convert', ...keyArgs(image), '-O', 'raw', ...openArgs(image), 'converted.raw'];
  return new Promise((resolve, reject) => {
    execFile('qemu-img', args, { cwd: image.dir }, (error, _stdout, stderr) => {
      if (error !== null) reject(new Error(`qemu-img convert: ${stderr.trim()}`));
      else resolve(fs.readFileSync(path.join(image.dir, 'converted.raw')));
    });
  });
}
