/** The machine and the programs that the numbers are from. */

import { cpus, release, totalmem } from 'node:os';
import { basename } from 'node:path';
import type { Candidate } from './candidates.js';
import { run } from './process.js';

/** Lines for the report. `images` is the directory that holds them. */
export async function setting(candidates: readonly Candidate[], images: string): Promise<string[]> {
  const processors = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  const fileSystem = (await run('df', ['--output=fstype', images])).trim().split('\n').at(-1);
  const lines = [
    `${processors.length} x ${processors[0]?.model.trim()}, ${gib} GiB of memory, images on ${fileSystem}`,
    `Linux ${release()}`,
  ];
  for (const { name, versions } of candidates) {
    const parts: string[] = [];
    for (const [command = '', ...args] of versions) {
      const version = /\d[\d.]*/.exec(await run(command, args))?.[0] ?? 'of unknown version';
      parts.push(`${basename(command)} ${version}`);
    }
    lines.push(`${name}: ${parts.join(', ')}`);
  }
  return lines;
}
