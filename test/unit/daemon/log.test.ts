import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { useScratch } from '../../support/scratch.js';

const SCRIPT = fileURLToPath(new URL('logging-process.js', import.meta.url));

describe('the log of daemons', () => {
  const scratch = useScratch();

  it('keeps what others wrote there, and is for its owner alone', () => {
    const file = scratch.path('new/log');
    for (const line of ['first', 'second']) {
      const { status, stderr } = spawnSync(process.execPath, [SCRIPT, file, line], { encoding: 'utf8' });
      expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    }
    expect(fs.readFileSync(file, 'utf8')).to.match(/^[^\n]*: first\n[^\n]*: second\n$/);
    expect(fs.statSync(file).mode & 0o777).to.equal(0o600);
  });
});
