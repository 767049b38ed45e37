/** A link that changes between every two system calls: what is opened is good, or is refused. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { expect } from 'chai';
import { NamedFiles } from '../../../src/qcow2/named-files.js';
import { useScratch } from '../../support/scratch.js';

const GOOD = 'good';
const SECRET = 'canary of a file outside';
/** Times that each name is opened, at most; enough when both outcomes were seen so often. */
const MAX_TIMES = 20_000;
const EACH = 500;
/** Is given names of links, each with the two places where it leads in turn. */
const SWAPPER = `
  const fs = require('node:fs');
  const [links] = process.argv.slice(1).map((text) => JSON.parse(text));
  for (const { name, targets } of links)
    targets.forEach((target, index) => fs.symlinkSync(target, name + '.' + index));
  fs.writeSync(1, 'ready');
  for (let turn = 0; ; turn = 1 - turn)
    for (const { name } of links) {
      fs.linkSync(name + '.' + turn, name + '.new');
      fs.renameSync(name + '.new', name);
      // Two names of one link: rename(2) leaves both.
      fs.rmSync(name + '.new', { force: true });
    }
`;

describe('a link that another process changes all the time', () => {
  let swapper: ChildProcess | undefined;
  // Before its directory goes: hooks run in the order in which they are registered.
  after(async () => {
    if (swapper === undefined) return;
    const ended = once(swapper, 'exit');
    swapper.kill('SIGKILL');
    await ended;
  });
  const scratch = useScratch();

  it('never leads outside of the directory, whenever it is changed', async () => {
    const [inside, outside] = [scratch.subdir(), scratch.subdir()];
    for (const dir of [`${inside}/own`, `${outside}/own`]) fs.mkdirSync(dir);
    for (const dir of [inside, `${inside}/own`]) fs.writeFileSync(`${dir}/file`, GOOD);
    for (const dir of [outside, `${outside}/own`]) fs.writeFileSync(`${dir}/file`, SECRET);
    const links = [
      { name: `${inside}/file-link`, targets: ['file', `${outside}/file`] },
      { name: `${inside}/directory-link`, targets: ['own', `${outside}/own`] },
      { name: `${inside}/proc-link`, targets: ['own/file', `/proc/self/root${outside}/file`] },
    ];
    for (const { name, targets } of links) fs.symlinkSync(targets[0]!, name);
    swapper = spawn(process.execPath, ['-e', SWAPPER, JSON.stringify(links)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(swapper.stdout!, 'data');

    const files = new NamedFiles(inside, []);
    for (const name of ['file-link', 'directory-link/file', 'proc-link']) {
      const seen = { good: 0, refused: 0 };
      for (let times = 0; times < MAX_TIMES && Math.min(seen.good, seen.refused) < EACH; times++) {
        seen[open(files, name, inside)]++;
      }
      expect(seen.good, `${name}: opened`).to.be.at.least(EACH);
      expect(seen.refused, `${name}: refused`).to.be.at.least(EACH);
    }
  });
});

function open(files: NamedFiles, name: string, dir: string): 'good' | 'refused' {
  let fd: number;
  try {
    ({ fd } = files.open(name, 'backing file', `${dir}/image.qcow2`));
  } catch (error) {
    expect(String(error)).to.contain('lies outside').and.not.contain(SECRET);
    return 'refused';
  }
  try {
    expect(fs.readFileSync(fd, 'utf8')).to.equal(GOOD);
    return 'good';
  } finally {
    fs.closeSync(fd);
  }
}
