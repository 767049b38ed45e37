/** What the reference says of an image: `qemu-img check`. */

import { type Image, keyArgs, openArgs } from './images.js';
import { spawnProgram } from './spawn.js';

export interface Verdict {
  /** 0 sound, 2 corrupt, 3 leaks; 1 when the check itself failed. */
  readonly status: number;
  readonly corruptions: number;
  readonly leaks: number;
  readonly allocated: number;
  readonly compressed: number;
  readonly fragmented: number;
  readonly total: number;
  readonly end: number;
  readonly output: string;
}

export function qemuCheck(image: Image, repair?: 'leaks' | 'all'): Verdict {
  const args = ['check', '--output=json', ...keyArgs(image), ...(repair === undefined ? [] : ['-r', repair])];
  const result = spawnProgram('qemu-img', [...args, ...openArgs(image)], { cwd: image.dir });
  const found = result.stdout.startsWith('{') ? (JSON.parse(result.stdout) as Record<string, number>) : {};
  return {
    status: result.status ?? -1,
    corruptions: found['corruptions'] ?? 0,
    leaks: found['leaks'] ?? 0,
    allocated: found['allocated-clusters'] ?? 0,
    compressed: found['compressed-clusters'] ?? 0,
    fragmented: found['fragmented-clusters'] ?? 0,
    total: found['total-clusters'] ?? 0,
    end: found['image-end-offset'] ?? 0,
    output: `${result.stdout}${result.stderr}`,
  };
}
