/** Commands are tested by whoever has built them: nothing that test/cli imports mounts, or needs root or other users. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';

const IMPORT = /\bfrom\s+'(\.[^']+)\.js'/g;
const FORBIDDEN = ['mounts', 'users', 'loops'].map((name) => `test/support/${name}.ts`);

function importsOf(file: string): string[] {
  const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
  return [...text.matchAll(IMPORT)].map(([, name]) => `${path.join(path.dirname(file), name!)}.ts`);
}

/** The files of test/ to which these lead, themselves included. */
function closure(files: readonly string[]): Set<string> {
  const found = new Set(files);
  // What is added meanwhile is visited, too.
  for (const file of found) {
    for (const wanted of importsOf(file)) if (wanted.startsWith('test/')) found.add(wanted);
  }
  return found;
}

const testsIn = (directory: string): string[] =>
  fs
    .readdirSync(path.join(ROOT, directory))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(directory, name));

describe('the tests of test/cli', () => {
  it('lead to nothing that mounts or needs root', () => {
    expect(closure(testsIn('test/cli'))).not.to.include.any.keys(...FORBIDDEN);
  });

  it('would be seen to: those of test/mount do', () => {
    expect(closure(testsIn('test/mount'))).to.include.all.keys(...FORBIDDEN);
  });
});
