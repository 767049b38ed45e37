/** Nothing that the tests of `make check` import mounts, or needs root or other users. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';

const IMPORT = /\bfrom\s+'(\.[^']+)\.js'/g;
const FORBIDDEN = ['mounts', 'users', 'loops'].map((name) => `test/support/${name}.ts`);

function importsOf(file: string): string[] {
  const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
  const names = [...text.matchAll(IMPORT)].map(([, name]) => `${path.join(path.dirname(file), name!)}.ts`);
  // Some tests have sources as text.
  return names.filter((name) => fs.existsSync(path.join(ROOT, name)));
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

/** Source files of what `make check` runs, from the Makefile. */
function checked(): string[] {
  const makefile = fs.readFileSync(path.join(ROOT, 'Makefile'), 'utf8');
  const names = /^CHECK\s*:= \$\(addprefix dist\/test\/,(.*)\)$/m.exec(makefile)![1]!.split(' ');
  return names.flatMap((name) => testsIn(`test/${name}`));
}

function testsIn(directory: string): string[] {
  const names = fs.readdirSync(path.join(ROOT, directory), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.ts')).map((name) => path.join(directory, name));
}

describe('the tests of make check', () => {
  it('lead to nothing that mounts or needs root', () => {
    expect(checked()).to.have.length.above(100);
    expect(closure(checked())).not.to.include.any.keys(...FORBIDDEN);
  });

  it('would be seen to: those of test/mount do', () => {
    expect(closure(testsIn('test/mount'))).to.include.all.keys(...FORBIDDEN);
  });
});
