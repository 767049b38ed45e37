/** Ordinary users: fusermount3 mounts for them, and nobody else looks inside. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { convertToRaw, createImage, imagePath, MiB, writeSteps } from '../support/images.js';
import { ON_OUR_OWN } from '../support/mount-namespace.js';
import { daemonOf, daemonsOf, endMount, isRunning, mountOn, mountsAt } from '../support/mounts.js';
import { type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { canRead, NOBODY, programFor, STRANGER, useOrdinaryUser } from '../support/users.js';

describe('an ordinary user', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  const asUser = useOrdinaryUser(home);
  const dir = scratch.subdir();
  let image: string;
  let expected: string;
  let mountpoint: string;

  before(() => {
    const made = createImage(dir, { size: 2 * MiB });
    writeSteps(made, 1, [{ do: 'data', offset: 4096, length: MiB }]);
    image = imagePath(made);
    expected = sha256(convertToRaw(made));
    fs.chmodSync(dir, 0o755);
    fs.chmodSync(image, 0o644);
  });
  beforeEach(() => {
    mountpoint = fs.mkdtempSync(path.join(home, 'mnt-'));
    fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
    defer(() => endMount(mountpoint));
  });

  function succeed({ status, stderr, stdout }: Outcome): string {
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
    return stdout;
  }

  for (const transport of ['kernel', 'libfuse']) {
    it(`mounts, reads and unmounts, with the ${transport} transport`, () => {
      succeed(asUser(['mount', '-r', '--transport', transport, image, mountpoint]));
      const daemon = daemonOf(mountpoint);
      const hashed = spawnSync('sha256sum', [path.join(mountpoint, 'disk.raw')], {
        ...NOBODY,
        encoding: 'utf8',
      });
      expect(hashed.stdout.split(' ')[0]).to.equal(expected);
      succeed(asUser(['umount', mountpoint]));
      expect(isRunning(daemon)).to.equal(false);
      expect(mountsAt(mountpoint)).to.deep.equal([]);
    });
  }

  it('mounts on a file of its own', () => {
    const file = path.join(home, 'file.raw');
    fs.writeFileSync(file, '');
    fs.chownSync(file, NOBODY.uid, NOBODY.gid);
    defer(() => endMount(file));
    succeed(asUser(['mount', '-r', image, file]));
    expect(canRead(file, NOBODY)).to.equal(true);
    succeed(asUser(['umount', file]));
    expect(fs.statSync(file).size).to.equal(0);
  });

  it('unmounts with fusermount3 -u', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const { status } = spawnSync('fusermount3', ['-u', mountpoint], NOBODY);
    expect(status).to.equal(0);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
  });

  it('finds its log below its home and its mount in its list', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const log = path.join(home, '.local/state/qcow2fs/qcow2fs.log');
    expect(fs.readFileSync(log, 'utf8')).to.contain(`mounted on ${mountpoint}/disk.raw`);
    expect(fs.statSync(log).mode & 0o777).to.equal(0o600);
    const listed = JSON.parse(succeed(asUser(['list', '--json']))).mounts as Record<string, unknown>[];
    const entry = listed.find((candidate) => candidate['mountpoint'] === mountpoint);
    expect(entry).to.include({ userId: NOBODY.uid, pid: daemonOf(mountpoint), state: 'mounted', log });
  });

  it('shows its mount, but not its daemon, in the list of another user', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const listed = JSON.parse(succeed(asUser(['list', '--json'], STRANGER))).mounts as Record<
      string,
      unknown
    >[];
    const entry = listed.find((candidate) => candidate['mountpoint'] === mountpoint);
    expect(entry).to.include({ userId: NOBODY.uid, pid: null, state: 'unknown', size: null });
  });

  // SECURITY.md: "Only who mounted a disk can open it, not even root without `--allow-other`;"
  it('keeps everybody else out', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const disk = path.join(mountpoint, 'disk.raw');
    expect(canRead(disk, NOBODY)).to.equal(true);
    expect(canRead(disk, STRANGER)).to.equal(false);
    expect(spawnSync('ls', [mountpoint], { ...STRANGER, stdio: 'ignore' }).status).to.not.equal(0);
  });

  // SECURITY.md: "Nobody else but root can unmount"
  it('cannot unmount what somebody else mounted', () => {
    mountOn(defer, image, fs.mkdtempSync(path.join(dir, 'mnt-')));
    const [other] = mountsAt(dir);
    const { status, stderr } = asUser(['umount', other!]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*(cannot unmount|EACCES)[^\n]*\n$/);
    expect(status).to.equal(9);
    expect(mountsAt(dir)).to.deep.equal([other]);
  });

  /** The program in a script. */
  const program = (): string =>
    programFor(home)
      .map((word) => `"${word}"`)
      .join(' ');

  /** Runs a script as root where /etc/fuse.conf says this and nobody else sees it. */
  function withFuseConf(content: string, script: string): Outcome {
    const conf = path.join(home, 'fuse.conf');
    fs.writeFileSync(conf, content);
    const inside = `${ON_OUR_OWN}
      mount --bind "${conf}" /etc/fuse.conf; asUser() {
      setpriv --reuid=${NOBODY.uid} --regid=${NOBODY.gid} --clear-groups env HOME="${home}" "$@"; }\n${script}`;
    const result = spawnSync('unshare', ['-m', 'sh', '-c', inside], { encoding: 'utf8', cwd: '/' });
    return { status: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  it('is told in one line that --allow-other needs user_allow_other', () => {
    const outcome = withFuseConf('', `asUser ${program()} mount -r --allow-other "${image}" "${mountpoint}"`);
    expect(outcome.stderr).to.match(/^qcow2fs: [^\n]*user_allow_other[^\n]*\n$/);
    expect(outcome.stderr).to.contain('/etc/fuse.conf');
    expect(outcome.status).to.equal(9);
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });

  it('lets others in with --allow-other where /etc/fuse.conf says user_allow_other', () => {
    const outcome = withFuseConf(
      'user_allow_other\n',
      `asUser ${program()} mount -r --allow-other "${image}" "${mountpoint}" && sha256sum "${mountpoint}/disk.raw"
       asUser ${program()} umount "${mountpoint}"`,
    );
    expect(outcome.stderr).to.equal('');
    expect(outcome.stdout.split(' ')[0]).to.equal(expected);
  });

  // SECURITY.md: "with that, the disk grants what all files of the image grant"
  describe('and a mount of root', () => {
    for (const [mode, readable] of [
      [0o644, true],
      [0o640, false],
      [0o600, false],
    ] as const) {
      it(`may ${readable ? '' : 'not '}read the disk of an image of mode ${mode.toString(8)} mounted with --allow-other`, () => {
        fs.chmodSync(image, mode);
        defer(() => fs.chmodSync(image, 0o644));
        const { disk } = mountOn(defer, image, mountpoint, ['--allow-other']);
        expect(fs.statSync(disk).mode & 0o777).to.equal(mode & 0o444);
        expect(canRead(disk, STRANGER)).to.equal(readable);
        qcow2fs(['umount', mountpoint]);
      });
    }

    it('may not look inside without --allow-other, whatever the mode of the image', () => {
      const { disk } = mountOn(defer, image, mountpoint);
      expect(canRead(disk, STRANGER)).to.equal(false);
      qcow2fs(['umount', mountpoint]);
    });
  });
});
