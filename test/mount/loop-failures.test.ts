/** `mount --loop` when a step fails: nothing is left. */

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { refusalOf } from '../support/files.js';
import { hurriedIn } from '../support/grace-periods.js';
import { checkImage, type Image, imagePath, MiB } from '../support/images.js';
import { mountsAt } from '../support/mounts.js';
import { BIN, qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';
import { useLoops } from './loops.js';

describe('mount --loop, when a step fails', () => {
  const scratch = useScratch();
  const { partitioned, logText, expectNothing } = useLoops(scratch, useCleanUp());

  /** An environment in which losetup is another program, which can call the real one as "$losetup". */
  function withLosetup(script: string): NodeJS.ProcessEnv {
    const programs = scratch.subdir();
    const real = tool('which', 'losetup').trim();
    fs.writeFileSync(path.join(programs, 'losetup'), `#!/bin/sh\nlosetup=${real}\n${script}\n`, {
      mode: 0o755,
    });
    return { ...process.env, PATH: `${programs}:${process.env['PATH']}` };
  }

  function startMount(image: Image, mountpoint: string, env: NodeJS.ProcessEnv): Promise<string> {
    const args = ['mount', '--log', `${mountpoint}.log`, '--loop', imagePath(image), mountpoint];
    const child = spawn(BIN, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (text += bytes));
    return new Promise((resolve) => child.once('close', (status) => resolve(`${status}: ${text}`)));
  }

  it('attaches nothing else when it is unmounted meanwhile, and leaves nothing', async () => {
    const file = scratch.path('covered.img');
    fs.writeFileSync(file, Buffer.alloc(MiB));
    const gate = scratch.path('gate');
    const waiting = scratch.path('waiting');
    const wait = `case $1 in --find) : > ${waiting}; until [ -e ${gate} ]; do sleep 0.01; done ;; esac`;
    const outcome = startMount(partitioned(), file, withLosetup(`${wait}\nexec "$losetup" "$@"`));
    await waitUntil('losetup was started', () => fs.existsSync(waiting));
    tool('umount', file);
    fs.writeFileSync(gate, '');
    expect(await outcome).to.match(/^9: qcow2fs: [^\n]*unmounted or moved while its loop device was made\n$/);
    expectNothing(file);
  });

  it('leaves nothing when losetup attaches and then dies', async () => {
    const mountpoint = scratch.subdir();
    const env = withLosetup('"$losetup" "$@" > /dev/null; case $1 in --find) kill -INT $$ ;; esac');
    expect(await startMount(partitioned(), mountpoint, env)).to.match(/^3: qcow2fs: losetup: [^\n]*\n$/);
    expectNothing(mountpoint);
  });

  it('gives those who have the disk open some seconds when no device can be had, and not more', async () => {
    const mountpoint = scratch.subdir();
    const gate = scratch.path('gate2');
    const losetup = withLosetup(
      `case $1 in --find) until [ -e ${gate} ]; do sleep 0.01; done; exit 1 ;; esac`,
    );
    const env = hurriedIn(losetup);
    const outcome = startMount(partitioned(), mountpoint, env);
    await waitUntil('it is mounted', () => mountsAt(mountpoint).length === 1);
    const fd = fs.openSync(path.join(mountpoint, 'disk.raw'), 'r');
    try {
      fs.writeFileSync(gate, '');
      // Where the connection cannot be aborted, the process goes, and the log has the reason.
      expect(await outcome).to.match(/^[13]: /);
      expect(logText(mountpoint)).to.match(/losetup: it ended with 1|^$/);
    } finally {
      expect(refusalOf(() => fs.closeSync(fd))).to.be.oneOf(['nothing', 'ENOTCONN', 'ECONNABORTED']);
    }
    expectNothing(mountpoint);
  });

  it('leaves nothing when a daemon in the foreground cannot print the devices', () => {
    const mountpoint = scratch.subdir();
    const args = ['mount', '--foreground', '--loop', imagePath(partitioned()), mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', '"$@" > /dev/full', 'sh', BIN, ...args], {
      encoding: 'utf8',
    });
    expect(stderr).to.match(/qcow2fs: standard output: ENOSPC[^\n]*\n$/);
    expect(status).to.equal(3);
    expectNothing(mountpoint);
  });

  it('leaves nothing when no device can be had', () => {
    const image = partitioned();
    const mountpoint = scratch.subdir();
    const overlay = scratch.path('overlay.qcow2');
    const { status, stdout, stderr } = qcow2fs(
      ['mount', '--log', `${mountpoint}.log`, '--loop', '--overlay', overlay, imagePath(image), mountpoint],
      { env: withLosetup('echo "losetup: cannot find an unused loop device" >&2; exit 1') },
    );
    expect(stderr).to.equal('qcow2fs: losetup: cannot find an unused loop device\n');
    expect(stdout).to.equal('');
    expect(status).to.equal(3);
    expect(fs.existsSync(overlay)).to.equal(false);
    expectNothing(mountpoint);
    checkImage(image);
  });

  it('leaves nothing when nobody can be told the devices', () => {
    const image = partitioned();
    const mountpoint = scratch.subdir();
    const args = ['mount', '--log', `${mountpoint}.log`, '--loop', imagePath(image), mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', '"$@" > /dev/full', 'sh', BIN, ...args], {
      encoding: 'utf8',
    });
    expect(stderr).to.match(/^qcow2fs: standard output: ENOSPC[^\n]*\n$/);
    expect(status).to.equal(3);
    expectNothing(mountpoint);
  });
});
