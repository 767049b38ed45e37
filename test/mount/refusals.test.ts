/** What a mount refuses that takes root to bring about: places in use, devices, a host without FUSE, other users. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { DEVICES, refusalsOf } from '../support/escapes.js';
import { sha256 } from '../support/files.js';
import { createImage, imagePath, MiB, qemuImg, writeSecret } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import { ON_OUR_OWN } from '../support/mount-namespace.js';
import { daemonsOf, endMount, mountOn, mountsAt } from '../support/mounts.js';
import { BIN, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { describeRefusals, expectRefused } from '../support/refusals.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, useOrdinaryUser } from '../support/users.js';

function image(dir: string): string {
  return imagePath(createImage(dir, { size: MiB }));
}

describeRefusals('devices in the directory', refusalsOf(DEVICES));

describe('qcow2fs mount on a mountpoint in use', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  it('refuses a second disk, and the first one stays', () => {
    const source = image(scratch.subdir());
    const { mountpoint, disk } = mountOn(defer, source, scratch.subdir());
    const before = sha256(disk);
    expectRefused(qcow2fs(['mount', '-r', source, mountpoint]), 'mountpoint', [
      mountpoint,
      `${source} is mounted there already`,
      `qcow2fs umount ${mountpoint}`,
    ]);
    expect(mountsAt(mountpoint)).to.deep.equal([mountpoint]);
    expect(daemonsOf(mountpoint)).to.have.length(1);
    expect(sha256(disk)).to.equal(before);
  });

  it('proposes a command that a shell takes, whatever the name', () => {
    const mountpoint = path.join(scratch.subdir(), "it's my disk");
    fs.mkdirSync(mountpoint);
    const source = image(scratch.subdir());
    mountOn(defer, source, mountpoint);
    const { stderr } = qcow2fs(['mount', '-r', source, mountpoint]);
    const command = /unmount it first: (qcow2fs umount [^\n]*)\n$/.exec(stderr)![1]!;
    tool('sh', '-c', `PATH="$1:$PATH"; ${command}`, 'sh', path.dirname(BIN));
    expect(mountsAt(mountpoint)).to.deep.equal([]);
  });

  it('refuses a second disk on a file, and the first one stays', () => {
    const dir = scratch.subdir();
    const source = image(dir);
    mountOn(defer, source, source);
    expectRefused(qcow2fs(['mount', '-r', source, source]), 'mountpoint', ['mounted there already']);
    expect(fs.statSync(source).size).to.equal(MiB);
  });

  it('refuses the disk file of another mount as image when it is no qcow2', () => {
    const { disk } = mountOn(defer, image(scratch.subdir()), scratch.subdir());
    const mountpoint = scratch.subdir();
    expectRefused(qcow2fs(['mount', '-r', disk, mountpoint]), 'format', [disk, 'not a qcow2 image']);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([]);
  });

  it('accepts a qcow2 image on a block device', () => {
    const source = image(scratch.subdir());
    // Loop devices are whole sectors.
    fs.truncateSync(source, MiB);
    const loop = attachLoop(defer, source, '--read-only');
    const { disk } = mountOn(defer, loop, scratch.subdir());
    expect(fs.statSync(disk).size).to.equal(MiB);
  });
});

describe('qcow2fs mount where FUSE is not to be had', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const source = (): string => image(scratch.subdir());
  const MAKE_DEV =
    'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9';

  /** Runs `qcow2fs mount` in a mount namespace of its own, after `prepare` changed what it sees. */
  function mountIn(
    prepare: string,
    mountpoint: string,
    asNobody: boolean,
    path_ = process.env['PATH'],
  ): Outcome {
    const user = asNobody ? `setpriv --reuid=${NOBODY.uid} --regid=${NOBODY.gid} --clear-groups` : '';
    const script = `${ON_OUR_OWN}\nset -e; ${prepare}\nexec ${user} /usr/bin/env "PATH=$3" "HOME=$2" "$0" "$1" mount -r --log "$2.log" "$4" "$2"`;
    const words = [process.execPath, BIN, mountpoint, path_ ?? '', source()];
    const result = spawnSync('unshare', ['-m', 'sh', '-c', script, ...words], { encoding: 'utf8', cwd: '/' });
    return { status: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  function freshMountpoint(): string {
    const mountpoint = scratch.subdir();
    for (const dir of [scratch.dir, mountpoint]) fs.chmodSync(dir, 0o755);
    fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
    fs.writeFileSync(`${mountpoint}.log`, '');
    fs.chownSync(`${mountpoint}.log`, NOBODY.uid, NOBODY.gid);
    defer(() => endMount(mountpoint));
    return mountpoint;
  }

  for (const asNobody of [false, true]) {
    const who = asNobody ? 'an ordinary user' : 'root';
    it(`tells ${who} that /dev/fuse is missing`, () => {
      const mountpoint = freshMountpoint();
      expectRefused(mountIn(MAKE_DEV, mountpoint, asNobody), 'fuse', [
        '/dev/fuse',
        'missing',
        'modprobe fuse',
      ]);
      expect(daemonsOf(mountpoint)).to.deep.equal([]);
    });
  }

  it('tells an ordinary user that /dev/fuse may not be opened, and how to permit it', () => {
    const mountpoint = freshMountpoint();
    const prepare = `${MAKE_DEV} && mknod -m 600 /dev/fuse c 10 229`;
    const outcome = mountIn(prepare, mountpoint, true);
    expectRefused(outcome, 'fuse', ['/dev/fuse', 'permission denied', 'chmod 0666 /dev/fuse']);
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });

  it('tells root in one line that /dev/fuse is something else', () => {
    const mountpoint = freshMountpoint();
    const outcome = mountIn('mount --bind /dev/null /dev/fuse', mountpoint, false);
    expect(outcome.stderr).to.match(/^qcow2fs: [^\n]+\n$/);
    expect(outcome.status).to.be.oneOf([9, 10]);
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });

  it('tells an ordinary user that fusermount3 is missing, and which package has it', () => {
    const mountpoint = freshMountpoint();
    const prepare = `${MAKE_DEV} && mknod -m 666 /dev/fuse c 10 229`;
    const outcome = mountIn(prepare, mountpoint, true, '/nonexistent');
    expectRefused(outcome, 'fuse', ['fusermount3', 'fuse3']);
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });
});

describe('qcow2fs mount as an ordinary user', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const asUser = useOrdinaryUser(scratch.path('home'));
  let dir: string;
  let mountpoint: string;

  beforeEach(() => {
    dir = scratch.subdir();
    mountpoint = path.join(scratch.path('home'), path.basename(dir));
    fs.mkdirSync(mountpoint);
    fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
    defer(() => endMount(mountpoint));
  });
  afterEach(() => {
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });

  it('refuses an image that the user may not read', () => {
    const source = image(dir);
    fs.chmodSync(source, 0);
    const words = [source, 'permission denied'];
    expectRefused(asUser(['mount', '-r', source, mountpoint]), 'host-io', words);
    expectRefused(asUser(['info', source]), 'host-io', words);
  });

  it('refuses a backing file that the user may not read, and tells who names it', () => {
    const base = imagePath(createImage(dir, { name: 'base.qcow2', size: MiB }));
    qemuImg(dir, ['create', '-q', '-u', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2', '1M']);
    fs.chmodSync(base, 0);
    const outcome = asUser(['mount', '-r', path.join(dir, 'top.qcow2'), mountpoint]);
    expectRefused(outcome, 'named-file', ['top.qcow2: ', 'backing file', base, 'permission denied']);
  });

  it('refuses a data file that the user may not read', () => {
    const source = imagePath(createImage(dir, { size: MiB, options: ['data_file=data.raw'] }));
    fs.chmodSync(path.join(dir, 'data.raw'), 0);
    const outcome = asUser(['mount', '-r', source, mountpoint]);
    expectRefused(outcome, 'named-file', ['data file', 'data.raw', 'permission denied']);
  });

  it('refuses a secret file that the user may not read', () => {
    const secret = writeSecret(dir, 'open sesame').file;
    fs.chmodSync(secret, 0);
    const outcome = asUser(['mount', '-r', '--secret-file', secret, image(dir), mountpoint]);
    expectRefused(outcome, 'secret', [secret, 'permission denied']);
  });

  it('refuses a mountpoint that the user may not write', () => {
    const place = scratch.subdir();
    const outcome = asUser(['mount', '-r', image(dir), place]);
    expectRefused(outcome, 'mountpoint', [place]);
    expect(mountsAt(place)).to.deep.equal([]);
  });

  it('refuses a mountpoint that the user may not look into', () => {
    const place = scratch.subdir();
    fs.chmodSync(place, 0o700);
    expectRefused(asUser(['mount', '-r', image(dir), place]), 'mountpoint', [place]);
  });
});
