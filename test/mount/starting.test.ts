/** A start that fails leaves nothing: no mount, dead or alive, no process, no lock. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { daemonsOf, endMount, mountsAt } from '../support/mounts.js';
import { withNodeOptions } from '../support/node-options.js';
import { BIN, expectQcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, useOrdinaryUser } from '../support/users.js';
import { waitUntil } from '../support/wait.js';

const PRELOAD = new URL('./dying-at-start.js', import.meta.url).href;
const LIMITS = [
  ...[16, 40, 64, 72, 80, 90].map((count) => ['-n', String(count)] as const),
  ...[1_000_000, 2_300_000, 2_500_000, 2_800_000].map((kib) => ['-v', String(kib)] as const),
];
const TRANSPORTS = ['kernel', 'libfuse'] as const;

describe('a mount that cannot start', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
  const home = scratch.path('home');
  useOrdinaryUser(home);

  /** Everything is as before, or the disk is there: nothing in between. */
  async function expectNothingOrAll(
    mountpoint: string,
    status: number | null,
    stderr: string,
  ): Promise<void> {
    if (status === 0) {
      expectQcow2fs(['umount', mountpoint]);
      return;
    }
    expect(stderr, 'one line').to.match(/^qcow2fs: [^\n]*\n$/);
    expect(status).to.equal(3);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    await waitUntil('nobody serves it', () => daemonsOf(mountpoint).length === 0);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
  }

  for (const [flag, value] of LIMITS) {
    it(`for a limit leaves nothing: ulimit ${flag} ${value}`, async () => {
      for (const transport of TRANSPORTS) {
        const mountpoint = scratch.subdir();
        defer(() => endMount(mountpoint));
        const args = ['mount', '--transport', transport, '--log', `${mountpoint}.log`, image, mountpoint];
        const { status, stderr } = spawnSync(
          'sh',
          ['-c', `ulimit ${flag} ${value}; exec "$@"`, 'sh', BIN, ...args],
          { encoding: 'utf8' },
        );
        await expectNothingOrAll(mountpoint, status, stderr);
      }
    });
  }

  it('for too few descriptors for its threads leaves nothing', async () => {
    const mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
    const command = 'ulimit -n 64; exec "$@"';
    const args = ['mount', '--threads', '32', '--log', `${mountpoint}.log`, image, mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', command, 'sh', BIN, ...args], { encoding: 'utf8' });
    expect(stderr).to.match(/^qcow2fs: \d+ file descriptors too few: raise the limit: ulimit -n\n$/);
    expect(status).to.equal(3);
    await expectNothingOrAll(mountpoint, status, stderr);
  });

  it('for the number of processes leaves nothing', async () => {
    const { uid, gid } = NOBODY;
    const ownImage = `${home}/image`;
    fs.copyFileSync(image, ownImage);
    fs.chownSync(ownImage, uid, gid);
    const as = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', 'env', `HOME=${home}`];
    for (const transport of TRANSPORTS) {
      for (let count = 10; count <= 40; count += 5) {
        const mountpoint = fs.mkdtempSync(`${home}/`);
        fs.chownSync(mountpoint, uid, gid);
        defer(() => endMount(mountpoint));
        const args = ['mount', '--transport', transport, '--log', `${home}/log`, ownImage, mountpoint];
        const { status } = spawnSync('prlimit', [`--nproc=${count}`, ...as, BIN, ...args]);
        if (status === 0) expectQcow2fs(['umount', mountpoint], { uid, gid });
        else expect(mountsAt(mountpoint), `${count} processes`).to.deep.equal([]);
        await waitUntil('nobody serves it', () => daemonsOf(mountpoint).length === 0);
      }
    }
  });

  for (const transport of TRANSPORTS) {
    it(`because the daemon is killed when it has mounted leaves no mount: ${transport}`, () => {
      const mountpoint = scratch.subdir();
      defer(() => endMount(mountpoint));
      const env = { ...withNodeOptions(`--import ${PRELOAD}`), DYING_CALL: 'mounted' };
      const args = ['mount', '--transport', transport, '--log', `${mountpoint}.log`, image, mountpoint];
      const { status, stderr } = spawnSync(BIN, args, { env, encoding: 'utf8' });
      expect(stderr).to.match(/^qcow2fs: the daemon ended before the disk was ready[^\n]*\n$/);
      expect(status).to.equal(1);
      expect(mountsAt(mountpoint)).to.deep.equal([]);
    });
  }

  for (const file of [false, true]) {
    it(`because the daemon is killed at its first requests leaves no mount on a ${file ? 'file' : 'directory'}`, async () => {
      for (const call of [0, 1, 2]) {
        const mountpoint = file ? scratch.path(`disk${call}`) : scratch.subdir();
        if (file) fs.writeFileSync(mountpoint, '');
        defer(() => endMount(mountpoint));
        const env = { ...withNodeOptions(`--import ${PRELOAD}`), DYING_CALL: String(call) };
        const args = ['mount', '--threads', '1', '--log', `${mountpoint}.log`, image, mountpoint];
        const { status, stderr } = spawnSync(BIN, args, { env, encoding: 'utf8' });
        expect(stderr).to.match(/^qcow2fs: the daemon ended before the disk was ready[^\n]*\n$/);
        expect(status).to.equal(1);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
      }
    });
  }

  for (const transport of ['a directory', 'a file']) {
    for (const when of ['load', '0', '1', '2']) {
      const step = when === 'load' ? 'it loads' : `call ${when} to the device`;
      it(`because a thread dies when ${step} leaves no mount on ${transport}`, async () => {
        const mountpoint = transport === 'a file' ? scratch.path(`thread-${when}`) : scratch.subdir();
        if (transport === 'a file') fs.writeFileSync(mountpoint, '');
        defer(() => endMount(mountpoint));
        const env = { ...withNodeOptions(`--import ${PRELOAD}`), DYING_CALL: when, DYING_THREAD: '1' };
        const args = ['mount', '--threads', '2', '--log', `${mountpoint}.log`, image, mountpoint];
        const { status, stderr } = spawnSync(BIN, args, { env, encoding: 'utf8' });
        expect(stderr).to.match(/^qcow2fs: [^\n]*\n$/);
        expect(status).to.be.above(0);
        expect(mountsAt(mountpoint)).to.deep.equal([]);
        await waitUntil('nobody serves it', () => daemonsOf(mountpoint).length === 0);
      });
    }
  }
});
