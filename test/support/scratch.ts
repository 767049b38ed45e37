/** A temporary directory for one test file, gone afterwards. */

import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Scratch {
  /** Absolute, without symlinks. */
  readonly dir: string;
  /** A path inside `dir`. */
  path(name: string): string;
  /** A fresh, empty directory inside `dir`. */
  subdir(): string;
  /** Removes everything; harmless when called twice. */
  dispose(): void;
}

/** Every scratch directory of this process: nothing below them may be mounted or served at its end. */
export const scratchDirs: string[] = [];

// Suites that a filter leaves out never run their hooks.
process.once('exit', () => {
  for (const dir of scratchDirs) remove(dir);
});

export function makeScratch(parent = tmpdir()): Scratch {
  const dir = realpathSync(mkdtempSync(join(parent, 'qcow2fs-test-')));
  scratchDirs.push(dir);
  let count = 0;
  return {
    dir,
    path: (name) => join(dir, name),
    subdir: () => {
      const path = join(dir, String(count++));
      mkdirSync(path);
      return path;
    },
    dispose: () => remove(dir),
  };
}

/**
 * A scratch directory that lives as long as the surrounding `describe` (or test file):
 * made at once, removed in Mocha's `after`.
 */
export function useScratch(): Scratch {
  const scratch = makeScratch();
  after(() => scratch.dispose());
  return scratch;
}

function remove(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}
