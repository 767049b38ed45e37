/** Ordinary users: fusermount3 mounts for them, and nobody else looks inside. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { processStartTime } from '../../src/host/processes.js';
import { setAccess } from '../support/access-list.js';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { convertToRaw, createImage, imagePath, MiB, writeSteps } from '../support/images.js';
import { LET_GO, ON_OUR_OWN } from '../support/mount-namespace.js';
import {
  daemonOf,
  daemonsOf,
  endDaemon,
  endMount,
  isRunning,
  logLines,
  mountOn,
  mountsAt,
  mountWritableOn,
} from '../support/mounts.js';
import { type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
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

  it('mounts without a log where the default one cannot be opened, and says so in one line', () => {
    const homes = [{ HOME: '/proc/none' }, { HOME: '' }, { HOME: home, XDG_STATE_HOME: '/proc/none' }];
    for (const env of homes) {
      const { status, stderr } = asUser(['mount', '-r', image, mountpoint], {
        env: { PATH: process.env['PATH'], ...env },
      });
      expect(stderr).to.match(/^qcow2fs: warning: [^\n]*cannot open the log: [^\n]*system's log only\n$/);
      expect(status).to.equal(0);
      const listed = JSON.parse(succeed(asUser(['list', '--json']))).mounts as Record<string, unknown>[];
      expect(listed.find((entry) => entry['mountpoint'] === mountpoint)).to.include({ log: null });
      succeed(asUser(['umount', mountpoint]));
    }
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

  // SECURITY.md: "You are warned when there is no other directory."
  it('is told at mount and at umount when somebody else has taken the directory of its state', () => {
    const taken = `/tmp/qcow2fs-${NOBODY.uid}`;
    fs.rmSync(taken, { recursive: true, force: true });
    fs.mkdirSync(taken);
    try {
      const warning = new RegExp(
        `^qcow2fs: warning: [^\\n]*${taken} belongs to user 0[^\\n]*cannot wait[^\\n]*\\n$`,
      );
      const mounted = asUser(['mount', '-r', image, mountpoint]);
      expect(mounted.stderr).to.match(warning);
      expect(mounted.status).to.equal(0);
      const daemon = daemonOf(mountpoint);
      const unmounted = asUser(['umount', mountpoint]);
      expect(unmounted.stderr).to.match(warning).and.contain(`${mountpoint}: unmounted`);
      expect(unmounted.status).to.equal(0);
      endDaemon(daemon);
    } finally {
      fs.rmSync(taken, { recursive: true });
    }
  });

  it('cannot make root wait for another process than its daemon', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const directory = `/tmp/qcow2fs-${NOBODY.uid}`;
    const file = path.join(directory, fs.readdirSync(directory).find((name) => name.endsWith('.json'))!);
    const startTime = processStartTime(process.pid);
    const state = { ...JSON.parse(fs.readFileSync(file, 'utf8')), pid: process.pid, startTime };
    fs.writeFileSync(file, JSON.stringify(state));
    const { status, stderr } = qcow2fs(['umount', mountpoint]);
    expect(stderr).to.match(/^qcow2fs: warning: [^\n]*: unmounted, but its daemon left no state, [^\n]*\n$/);
    expect(status).to.equal(0);
    fs.rmSync(file, { force: true });
  });

  // SECURITY.md: "Without `--allow-other`, nobody but the user who mounted a disk can open it, not even root."
  it('keeps everybody else out', () => {
    succeed(asUser(['mount', '-r', image, mountpoint]));
    const disk = path.join(mountpoint, 'disk.raw');
    expect(canRead(disk, NOBODY)).to.equal(true);
    expect(canRead(disk, STRANGER)).to.equal(false);
    expect(spawnSync('ls', [mountpoint], { ...STRANGER, stdio: 'ignore' }).status).to.not.equal(0);
  });

  // SECURITY.md: "No other user except root can unmount"
  it('cannot unmount what somebody else mounted', () => {
    mountOn(defer, image, fs.mkdtempSync(path.join(dir, 'mnt-')));
    const [other] = mountsAt(dir);
    const { status, stderr } = asUser(['umount', other!]);
    expect(stderr).to.match(/^qcow2fs: [^\n]*(only root may unmount it|EACCES)[^\n]*\n$/);
    expect(status).to.equal(9);
    expect(mountsAt(dir)).to.deep.equal([other]);
  });

  it('writes as root of a user namespace an image whose group is not there', () => {
    const place = fs.mkdtempSync(path.join(home, 'userns-'));
    const [file, log] = [path.join(place, 'image.qcow2'), path.join(place, 'log')];
    fs.copyFileSync(image, file);
    fs.chmodSync(file, 0o666);
    fs.chownSync(place, NOBODY.uid, NOBODY.gid);
    const disk = path.join(mountpoint, 'disk.raw');
    const script = `${LET_GO}
      ${program()} mount --log "${log}" "${file}" "${mountpoint}" &&
      printf changed | dd of="${disk}" bs=1 seek=512 conv=notrunc,fsync status=none
      status=$?; stat -c %g:%a "${disk}"; ${program()} umount "${mountpoint}" && exit $status`;
    const words = ['-Urm', 'sh', '-c', script];
    const env = { PATH: process.env['PATH'], HOME: home };
    const { status, stdout, stderr } = spawnSync('unshare', words, {
      ...NOBODY,
      env,
      encoding: 'utf8',
      cwd: '/',
    });
    expect(stderr).to.equal('');
    expect([status, stdout]).to.deep.equal([0, '0:600\n']);
    expect(run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -v 512 16', file])).to.contain('changed');
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

  // SECURITY.md: "With it, only root and that user can, unless `--mode` says otherwise."
  describe('and a mount of root', () => {
    const member = { uid: STRANGER.uid, gid: NOBODY.gid } as const;
    let base: string;
    let own: string;

    beforeEach(() => {
      own = scratch.subdir();
      base = path.join(own, 'base.qcow2');
      fs.chmodSync(own, 0o755);
      fs.copyFileSync(image, base);
      fs.chownSync(base, 0, NOBODY.gid);
      fs.chmodSync(base, 0o664);
    });

    /** With --allow-other: the mode of the disk, as far as users go by it. */
    function modeOf(options: readonly string[], file = base): number {
      const mounting = options.includes('-r') ? mountOn : mountWritableOn;
      const args = ['--allow-other', ...options.filter((option) => option !== '-r')];
      const { disk } = mounting(defer, file, mountpoint, args);
      const mode = fs.statSync(disk).mode & 0o777;
      expect(canRead(disk, member), 'a member of the group').to.equal((mode & 0o40) !== 0);
      expect(canRead(disk, STRANGER), 'somebody else').to.equal((mode & 0o4) !== 0);
      succeed(qcow2fs(['umount', mountpoint]));
      return mode;
    }

    it('may not read a disk of which --mode does not say so, whatever the image grants', () => {
      fs.chmodSync(base, 0o666);
      expect(modeOf(['-r'])).to.equal(0o400);
      expect(modeOf([])).to.equal(0o600);
      expect(modeOf(['-r', '--transport', 'libfuse'])).to.equal(0o400);
    });

    it('may do what --mode says and the image grants', () => {
      expect(modeOf(['--mode', '666'])).to.equal(0o664);
      expect(modeOf(['-o', 'mode=0640'])).to.equal(0o640);
      expect(modeOf(['--mode', '0444'])).to.equal(0o444);
      expect(modeOf(['-r', '--mode', '666'])).to.equal(0o444);
      expect(modeOf(['-r', '--mode', '666', '--transport', 'libfuse'])).to.equal(0o444);
      fs.chmodSync(base, 0o600);
      expect(modeOf(['--mode', '666'])).to.equal(0o600);
    });

    it('may not read a disk whose image lies in a private directory', () => {
      fs.chmodSync(own, 0o750);
      fs.chownSync(own, 0, NOBODY.gid);
      expect(modeOf(['--mode', '666'])).to.equal(0o660);
      fs.chmodSync(own, 0o700);
      expect(modeOf(['--mode', '666'])).to.equal(0o600);
    });

    it('may not read a disk whose image has a list that does not let them', () => {
      setAccess(base, { user: 6, users: { 1: 6 }, group: 0, mask: 6, other: 0 });
      expect(modeOf(['--mode', '666'])).to.equal(0o600);
      setAccess(base, { user: 6, group: 0, groups: { 1: 0 }, mask: 6, other: 4 });
      expect(modeOf(['--mode', '666'])).to.equal(0o600);
    });

    it('may not read a disk whose backing file does not let them, and write one whose backing file does', () => {
      const backing = { file: base, format: 'qcow2' } as const;
      const top = imagePath(createImage(own, { name: 'top.qcow2', size: 2 * MiB, backing }));
      fs.chownSync(top, 0, NOBODY.gid);
      fs.chmodSync(top, 0o666);
      fs.chmodSync(base, 0o444);
      expect(modeOf(['--mode', '666'], top)).to.equal(0o666);
      fs.chmodSync(base, 0o640);
      expect(modeOf(['--mode', '666'], top)).to.equal(0o660);
    });

    it('may not read a disk whose data file does not let them', () => {
      const made = createImage(own, {
        name: 'with-data.qcow2',
        size: 2 * MiB,
        options: ['data_file=data.raw'],
      });
      for (const file of [imagePath(made), path.join(own, 'data.raw')]) fs.chownSync(file, 0, NOBODY.gid);
      fs.chmodSync(imagePath(made), 0o666);
      fs.chmodSync(path.join(own, 'data.raw'), 0o640);
      expect(modeOf(['--mode', '666'], imagePath(made))).to.equal(0o640);
    });

    it('may not read a disk whose image lies in a mount that is closed to them', () => {
      const outer = path.join(own, 'outer.qcow2');
      run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', base, outer]);
      const inner = fs.mkdtempSync(path.join(own, 'mnt-'));
      fs.chmodSync(inner, 0o755);
      fs.chmodSync(outer, 0o666);
      const { disk } = mountOn(defer, outer, inner, ['--mode', '444']);
      expect(fs.statSync(disk).mode & 0o777).to.equal(0o444);
      expect(modeOf(['-r', '--mode', '666'], disk)).to.equal(0o400);
    });

    it('may not read a disk with a new overlay, which is for its owner', () => {
      expect(modeOf(['--overlay', 'temp', '--mode', '666'])).to.equal(0o600);
      expect(modeOf(['--overlay', path.join(own, 'new.qcow2'), '--mode', '666'])).to.equal(0o600);
    });

    it('is told in the log why --mode is not what it says', () => {
      fs.chmodSync(base, 0o640);
      const { log, mountpoint: place } = mountOn(defer, base, mountpoint, ['--allow-other', '--mode', '644']);
      expect(logLines(log).join('\n')).to.contain(`${base}: grants no more than 0640 of --mode 0644`);
      succeed(qcow2fs(['umount', place]));
    });

    it('may not look inside without --allow-other, whatever the mode of the image', () => {
      const { disk } = mountOn(defer, image, mountpoint);
      expect(canRead(disk, STRANGER)).to.equal(false);
      qcow2fs(['umount', mountpoint]);
    });
  });
});
