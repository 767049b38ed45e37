/** `qcow2fs umount` and `list` where a mount has several names, or none that can be looked at. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { withFile } from '../support/files.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { LET_GO_OF_OTHERS } from '../support/mount-namespace.js';
import { daemonOf, endMount, isRunning, mountOn, mountsAt, mountWritableOn } from '../support/mounts.js';
import { BIN, expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { waitUntil } from '../support/wait.js';

describe('qcow2fs umount and list', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const makeImage = (): string => imagePath(createImage(scratch.subdir(), { size: 3 * MiB }));
  const listed = (): Record<string, unknown>[] => JSON.parse(expectQcow2fs(['list', '--json'])).mounts;

  it('find a mount through links without a look at it, for its daemon may hang', async () => {
    // Nor has anybody had one yet: the kernel would remember.
    const mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
    expectQcow2fs(['mount', '--log', `${mountpoint}.log`, makeImage(), mountpoint]);
    const daemon = daemonOf(mountpoint);
    const place = scratch.subdir();
    fs.symlinkSync(path.dirname(mountpoint), path.join(place, 'above'));
    fs.symlinkSync(`above/./${path.basename(mountpoint)}`, path.join(place, 'link'));
    defer(() => spawnSync('kill', ['-CONT', String(daemon)]));
    process.kill(daemon, 'SIGSTOP');
    const child = spawn(BIN, ['umount', path.join(place, 'link')], { stdio: 'inherit' });
    const ended = once(child, 'exit');
    await waitUntil('it is unmounted', () => mountsAt(mountpoint).length === 0);
    process.kill(daemon, 'SIGCONT');
    expect((await ended)[0]).to.equal(0);
  });

  it('say where else a disk is mounted, and show each place as it is', () => {
    const { mountpoint, disk } = mountOn(defer, makeImage(), scratch.subdir());
    const copy = scratch.subdir();
    const file = path.join(scratch.subdir(), 'disk');
    fs.writeFileSync(file, '');
    for (const [from, to] of [
      [mountpoint, copy],
      [disk, file],
    ] as const) {
      tool('mount', '--bind', from, to);
      defer(() => void spawnSync('umount', ['-q', '-l', to]));
    }
    const disks = listed().map((mount) => mount['disk']);
    expect(disks).to.include.members([disk, path.join(copy, 'disk.raw'), file]);
    const first = qcow2fs(['umount', mountpoint]);
    expect(first).to.include({ status: 0, stdout: '' });
    expect(first.stderr).to.match(/^qcow2fs: \S+: unmounted; the disk stays in use[^\n]*\n$/);
    expect(first.stderr).to.contain(`${copy}, ${file}`);
    expectQcow2fs(['umount', path.join(copy, 'disk.raw')]);
    expect(qcow2fs(['umount', file])).to.deep.equal({ status: 0, stdout: '', stderr: '' });
    expect(listed().map((mount) => mount['disk'])).not.to.include(file);
  });

  it('find a disk that was unmounted lazily, and name the process that still uses it, though the daemon may hang', async () => {
    const { mountpoint, disk } = mountWritableOn(defer, makeImage(), scratch.subdir());
    const daemon = daemonOf(mountpoint);
    const user = spawn('sh', ['-c', 'exec sleep 1000 < "$1"', 'sh', disk], { stdio: 'ignore' });
    defer(() => user.kill('SIGKILL'));
    const comm = `/proc/${user.pid}/comm`;
    await waitUntil('it has the disk open', () => fs.readFileSync(comm, 'utf8') === 'sleep\n');
    tool('umount', '-l', mountpoint);
    const shown = listed().find((mount) => mount['mountpoint'] === mountpoint);
    expect(shown).to.include({ disk, pid: daemon, state: 'detached', readOnly: false, size: 3 * MiB });
    for (const place of [mountpoint, disk]) {
      process.kill(daemon, 'SIGSTOP');
      const { status, stderr } = qcow2fs(['umount', place]);
      process.kill(daemon, 'SIGCONT');
      expect(status).to.equal(9);
      expect(stderr).to.match(/^qcow2fs: \S+: unmounted, but [^\n]* which has it open; end that first\n$/);
      expect(stderr).to.contain(`(process ${daemon})`).and.contain(`process ${user.pid} (sleep)`);
    }
    user.kill();
    // It may have ended by then.
    expect(qcow2fs(['umount', mountpoint]).status).to.be.oneOf([0, 9]);
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
    expect(listed().map((mount) => mount['mountpoint'])).not.to.include(mountpoint);
  });

  it('name the process whose mount namespace still has the disk, and no command to run in it', async () => {
    const { mountpoint } = mountOn(defer, makeImage(), scratch.subdir());
    const daemon = daemonOf(mountpoint);
    const script = `${LET_GO_OF_OTHERS}\necho; exec sleep 1000`;
    const user = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script, 'sh', mountpoint], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    defer(() => user.kill('SIGKILL'));
    await once(user.stdout!, 'data');
    const { status, stderr } = qcow2fs(['umount', mountpoint]);
    expect(status).to.equal(9);
    expect(stderr)
      .to.match(/^qcow2fs: [^\n]* the mount namespace of process [^\n]*; end that process first\n$/)
      .and.contain(`process ${user.pid} (sleep), which has it on ${mountpoint}`);
    expect(listed().find((mount) => mount['pid'] === daemon)).to.include({ mountpoint, state: 'detached' });
    user.kill('SIGKILL');
    expect(qcow2fs(['umount', mountpoint]).status).to.be.oneOf([0, 9]);
    await waitUntil('the daemon has ended', () => !isRunning(daemon));
  });

  it('name a program, and no thread of the kernel, where the first mount namespace still has the disk', () => {
    const { mountpoint } = mountOn(defer, makeImage(), scratch.subdir());
    const script = `${LET_GO_OF_OTHERS}\nexec "$2" umount "$1"`;
    const elsewhere = ['-m', '--propagation', 'private', 'sh', '-c', script, 'sh', mountpoint, BIN];
    const { status, stderr } = spawnSync('unshare', elsewhere, { encoding: 'utf8' });
    expect(status).to.equal(9);
    const pid = /namespace of process (\d+)/.exec(stderr)?.[1];
    expect(fs.readlinkSync(`/proc/${pid}/exe`)).to.match(/^\//);
    expectQcow2fs(['umount', mountpoint]);
  });

  it('know how large a disk is by now', async () => {
    const { disk } = mountWritableOn(defer, makeImage(), scratch.subdir(), ['--resizable']);
    withFile(disk, 'r+', (fd) => fs.ftruncateSync(fd, 5 * MiB));
    await waitUntil(
      'list shows it',
      () => listed().find((mount) => mount['disk'] === disk)?.['size'] === 5 * MiB,
    );
  });

  it('refuse in one line what is no mountpoint, and -q is content', () => {
    const image = makeImage();
    for (const place of ['/dev/null/x', `${image}/x`, '/nowhere']) {
      const { status, stderr } = qcow2fs(['umount', place]);
      expect(status).to.equal(9);
      expect(stderr).to.match(/^qcow2fs: \S+: (the mountpoint does not exist; |ENOTDIR: )[^\n]*\n$/);
      expect(qcow2fs(['umount', '-q', place])).to.deep.equal({ status: 0, stdout: '', stderr: '' });
    }
  });

  it('a mount is not disturbed by a dead one that its caller holds open', () => {
    const dead = mountOn(defer, makeImage(), scratch.subdir());
    const daemon = daemonOf(dead.mountpoint);
    const [image, mountpoint] = [makeImage(), scratch.subdir()];
    defer(() => void spawnSync('umount', ['-q', '-l', mountpoint]));
    const script = 'exec 7< "$1"; kill -KILL "$2"; shift 2; "$@"';
    const args = [BIN, 'mount', '-r', '--log', `${mountpoint}.log`, image, mountpoint];
    const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', dead.disk, String(daemon), ...args], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    expectQcow2fs(['umount', mountpoint]);
    expectQcow2fs(['umount', dead.mountpoint]);
  });

  it('a log that the user names where none can be is refused, not waited for', () => {
    const { status, stderr } = qcow2fs(['mount', '--log', '/proc/x/y', makeImage(), scratch.subdir()]);
    expect(status).to.equal(3);
    expect(stderr).to.match(/^qcow2fs: \/proc\/x\/y: cannot open the log: [^\n]*\n$/);
  });
});
