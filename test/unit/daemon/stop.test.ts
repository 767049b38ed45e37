import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const SCRIPT = fileURLToPath(new URL('stopped-process.js', import.meta.url));

interface End {
  readonly status: number | null;
  /** What the process was told to do. */
  readonly told: readonly string[];
  readonly log: string;
}

/** Lets the process be stopped by two signals, the second one when the first has been obeyed. */
function stopTwice(mode: 'flush' | 'fail'): Promise<End> {
  const child = spawn(process.execPath, [SCRIPT, mode], { stdio: ['ignore', 'pipe', 'pipe'] });
  let told = '';
  let log = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const before = told;
    told += text;
    const says = (word: string): boolean => told.includes(word) && !before.includes(word);
    if (says('ready') || says('detach')) child.kill('SIGTERM');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, told: told.trim().split('\n'), log }));
  });
}

describe('a daemon that is stopped while it mounts', () => {
  it('unmounts as soon as the disk is mounted', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, 'early'], { encoding: 'utf8' });
    expect({ status, stdout, stderr }).to.deep.equal({ status: 0, stdout: 'unmount\n', stderr: '' });
  });
});

describe('a daemon that cannot end in order', () => {
  it('saves what was written first', async () => {
    const { status, told, log } = await stopTwice('flush');
    expect(told).to.deep.equal(['ready', 'unmount', 'detach', 'abort', 'flush']);
    expect(status).to.equal(1);
    expect(log).to.match(/image\.qcow2: ended while the disk was in use\n$/);
  });

  it('ends all the same when that fails, and says that writes may be lost', async () => {
    const { status, told, log } = await stopTwice('fail');
    expect(told.at(-1)).to.equal('flush');
    expect(status).to.equal(1);
    expect(log).to.match(/image\.qcow2: the last writes may be lost: .*write failed at 0x0, no space left\n/);
  });
});
