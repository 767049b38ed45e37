/** The ordinary mount(8) and umount(8), fstab included, through the helpers that an installation puts beside them. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  type Image,
  imagePath,
  MiB,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { useMountNamespace } from '../support/mount-namespace.js';
import { isRunning } from '../support/mounts.js';
import type { Outcome, RunAs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, programFor, useOrdinaryUser } from '../support/users.js';

const SIZE = 16 * MiB;
const TYPE = 'fuse.qcow2fs';

describe('mount(8) with the type fuse.qcow2fs', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  useOrdinaryUser(home);
  const space = useMountNamespace(scratch, () => programFor(home));
  const bare = useMountNamespace(scratch, undefined, false);
  let image: Image;
  let secret: string;
  let plainSecret: string;
  let expected: string;

  before(() => {
    const key = writeSecret(scratch.dir, 'open sesame');
    image = createImage(scratch.subdir(), {
      size: SIZE,
      secret: key,
      encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
    });
    writeSteps(image, 1, [{ do: 'data', offset: 512, length: 2 * MiB }]);
    expected = sha256(convertToRaw(image));
    plainSecret = key.file;
    secret = path.join(scratch.dir, 'sec,ret');
    fs.copyFileSync(key.file, secret);
    fs.chmodSync(secret, 0o600);
  });

  function place(): string {
    const mountpoint = scratch.subdir();
    defer(() => void space.run(['umount', '--internal-only', '--lazy', '--quiet', mountpoint]));
    return mountpoint;
  }

  function expectRun(command: readonly string[], options: RunAs = {}): string {
    const { status, stdout, stderr } = space.run(command, options);
    expect(`${stdout}${stderr}`, command.join(' ')).to.equal(stdout);
    expect(status, command.join(' ')).to.equal(0);
    return stdout;
  }

  function refusal(command: readonly string[], options: RunAs = {}): string {
    const { status, stdout, stderr }: Outcome = space.run(command, options);
    expect(stdout).to.equal('');
    return `${status}: ${stderr}`;
  }

  function field(mountpoint: string, name: string): string {
    return expectRun(['findmnt', '--noheadings', '--output', name, '--mountpoint', mountpoint]).trim();
  }

  function daemons(mountpoint: string): number[] {
    const { mounts } = JSON.parse(expectRun(['qcow2fs', 'list', '--json'])) as {
      mounts: readonly { mountpoint: string; pid: number }[];
    };
    return mounts.filter((mount) => mount.mountpoint === mountpoint).map(({ pid }) => pid);
  }

  it('takes its options, shows image, type, size and flags, and is unmounted when the image is released', () => {
    const mountpoint = place();
    const words = `ro,noexec,noatime,x-systemd.automount,secret-file="${secret}"`;
    expectRun(['mount', '-t', TYPE, imagePath(image), mountpoint, '-o', words]);
    expect(field(mountpoint, 'SOURCE')).to.equal(imagePath(image));
    expect(field(mountpoint, 'FSTYPE')).to.equal(TYPE);
    expect(field(mountpoint, 'OPTIONS').split(',')).to.include.members([
      'ro',
      'noexec',
      'noatime',
      'nosuid',
      'nodev',
    ]);
    const size = expectRun(['df', '-B1', '--output=size', mountpoint]).split('\n')[1]!.trim();
    expect(Number(size)).to.equal(SIZE);
    const sum = expectRun(['sha256sum', path.join(mountpoint, 'disk.raw')]);
    expect(sum.slice(0, 64)).to.equal(expected);
    const [daemon] = daemons(mountpoint);
    expectRun(['umount', mountpoint]);
    expect(isRunning(daemon!)).to.equal(false);
  });

  it('finds everything in a line of fstab, blanks and commas included, once however often it is asked', () => {
    const odd = scratch.path('an image, odd.qcow2');
    fs.copyFileSync(imagePath(image), odd);
    const mountpoint = `${place()}/the disk`;
    fs.mkdirSync(mountpoint);
    defer(() => void space.run(['umount', '--internal-only', '--lazy', '--quiet', mountpoint]));
    const escaped = (text: string): string => text.replaceAll(' ', '\\040');
    space.fstab(
      `${escaped(odd)} ${escaped(mountpoint)} ${TYPE} ro,nofail,x-systemd.requires-mounts-for=/srv,secret-file="${secret}" 0 0`,
    );
    expectRun(['mount', '-a']);
    expectRun(['mount', '-a']);
    expect(daemons(mountpoint)).to.have.length(1);
    expectRun(['umount', mountpoint]);
    expectRun(['mount', mountpoint]);
    expectRun(['umount', odd]);
    expect(daemons(mountpoint)).to.deep.equal([]);
  });

  it('writes, and the image is complete when umount returns', () => {
    const plain = createImage(scratch.subdir(), { size: SIZE });
    const mountpoint = place();
    expectRun(['mount', '-t', TYPE, imagePath(plain), mountpoint]);
    expectRun([
      'dd',
      'if=/dev/urandom',
      `of=${mountpoint}/disk.raw`,
      'bs=1M',
      'count=8',
      'conv=notrunc',
      'status=none',
    ]);
    const sum = expectRun(['sha256sum', `${mountpoint}/disk.raw`]).slice(0, 64);
    expectRun(['umount', mountpoint]);
    checkImage(plain);
    expect(sha256(convertToRaw(plain))).to.equal(sum);
  });

  it('ends with the statuses of mount(8), and one line that says why', () => {
    const mountpoint = place();
    const mount = (words: string): string =>
      refusal(['mount', '-t', TYPE, imagePath(image), mountpoint, '-o', words]);
    expect(mount('ro,bogus')).to.match(/^1: qcow2fs: -o bogus: unknown option[^\n]*\n$/);
    expect(mount('ro')).to.match(/^32: qcow2fs: [^\n]*--secret-file[^\n]*\n$/);
    expect(mount('ro,secret-file=/nowhere')).to.match(/^32: qcow2fs: \/nowhere: [^\n]*\n$/);
    expect(refusal(['mount', '-t', TYPE, '/nowhere.qcow2', mountpoint])).to.match(
      /^32: [^\n]*nowhere.qcow2[^\n]*\n$/,
    );
    expect(space.run(['qcow2fs', 'list', '--json']).stdout).not.to.contain(mountpoint);
  });

  it('neither changes a mounted disk, nor mounts when it is only to pretend', () => {
    const mountpoint = place();
    const words = `ro,secret-file="${secret}"`;
    expectRun(['mount', '--fake', '-t', TYPE, imagePath(image), mountpoint, '-o', words]);
    expect(daemons(mountpoint)).to.deep.equal([]);
    expectRun(['mount', '-t', TYPE, imagePath(image), mountpoint, '-o', words]);
    expect(refusal(['mount', '-o', 'remount,rw', mountpoint])).to.match(/^1: qcow2fs: -o remount: [^\n]*\n$/);
    expect(field(mountpoint, 'OPTIONS').split(',')).to.include('ro');
    expectRun(['qcow2fs', 'umount', mountpoint]);
    const table = '/run/mount/utab';
    expect(fs.existsSync(table) ? fs.readFileSync(table, 'utf8') : '').to.not.contain(mountpoint);
    const lists = ['-o', 'ro', '-o', `secret-file="${secret}"`];
    expectRun([`mount.${TYPE}`, imagePath(image), mountpoint, ...lists]);
    expect(field(mountpoint, 'OPTIONS').split(',')).to.include('ro');
    expectRun(['umount', mountpoint]);
  });

  it('does without an image that may be missing, and refuses what makes no sense', () => {
    const mountpoint = place();
    space.fstab(`/nowhere.qcow2 ${mountpoint} ${TYPE} ro,nofail 0 0`);
    expectRun(['mount', '-a']);
    space.fstab(`/nowhere.qcow2 ${mountpoint} ${TYPE} ro 0 0`);
    expect(refusal(['mount', '-a'])).to.match(/^32: [^\n]*nowhere.qcow2[^\n]*\n$/);
    expect(refusal([`mount.${TYPE}`, '-o', 'ro', '/a.qcow2', mountpoint])).to.match(
      /^1: [^\n]*usage[^\n]*\n$/,
    );
    expect(refusal([`mount.${TYPE}`, '/a.qcow2'])).to.match(/^1: [^\n]*usage[^\n]*\n$/);
    expect(refusal([`umount.${TYPE}`, mountpoint, 'x'])).to.match(/^1: [^\n]*too many arguments[^\n]*\n$/);
    expect(refusal([`umount.${TYPE}`, '-l', mountpoint])).to.match(/^1: [^\n]*usage[^\n]*\n$/);
    // mount(8) makes the image itself a loop device, where no lock is seen by anybody.
    const words = ['-o', `loop,ro,secret-file="${secret}"`];
    expect(refusal(['mount', '-t', TYPE, imagePath(image), mountpoint, ...words])).to.match(
      /^1: [^\n]*the word loop; leave that out[^\n]*\n$/,
    );
    expect(daemons(mountpoint)).to.deep.equal([]);
  });

  it("lets root unmount what an ordinary user has mounted, and that user see root's", () => {
    const plain = createImage(home, { size: SIZE });
    const theirs = path.join(home, 'theirs');
    const ours = place();
    fs.mkdirSync(theirs);
    for (const file of [theirs, imagePath(plain)]) fs.chownSync(file, NOBODY.uid, NOBODY.gid);
    defer(() => void space.run(['umount', '--internal-only', '--lazy', '--quiet', theirs]));
    expectRun(['qcow2fs', 'mount', '-r', imagePath(image), ours, '-o', `secret-file="${secret}"`]);
    expectRun(['qcow2fs', 'mount', '-r', '--log', `${home}/log`, imagePath(plain), theirs], NOBODY);
    const listed = expectRun(['qcow2fs', 'list', '--json'], NOBODY);
    const { mounts } = JSON.parse(listed) as { mounts: readonly Record<string, unknown>[] };
    expect(mounts.find((mount) => mount['mountpoint'] === ours)).to.include({ state: 'unknown', pid: null });
    expect(mounts.find((mount) => mount['mountpoint'] === theirs)).to.include({ state: 'mounted' });
    expect(space.run(['qcow2fs', 'umount', '--quiet', ours], NOBODY).status).to.equal(9);
    expectRun(['umount', theirs]);
    expect(daemons(theirs)).to.deep.equal([]);
    expectRun(['qcow2fs', 'umount', path.join(ours, 'disk.raw')]);
    expect(daemons(ours)).to.deep.equal([]);
  });

  it('is not unmounted while it is in use, unless it may be lazy', () => {
    const mountpoint = place();
    expectRun(['mount', '-t', TYPE, imagePath(image), mountpoint, '-o', `ro,secret-file="${secret}"`]);
    const held = `exec 5< ${mountpoint}/disk.raw; umount ${mountpoint}; echo $?; umount -l ${mountpoint}; echo $?`;
    const { stdout, stderr } = space.run(['sh', '-c', held]);
    expect(stdout).to.equal('32\n0\n');
    expect(stderr).to.match(/^qcow2fs: [^\n]*in use[^\n]*\n$/);
  });

  it('lets ordinary users mount what fstab offers them, and unmount it', () => {
    const plain = createImage(path.join(home), { size: SIZE });
    const mountpoint = path.join(home, 'mnt');
    fs.mkdirSync(mountpoint);
    for (const file of [mountpoint, imagePath(plain)]) fs.chownSync(file, NOBODY.uid, NOBODY.gid);
    defer(() => void space.run(['umount', '--internal-only', '--lazy', '--quiet', mountpoint]));
    space.fstab(`${imagePath(plain)} ${mountpoint} ${TYPE} noauto,user,ro,log=${home}/log 0 0`);
    expectRun(['mount', mountpoint], NOBODY);
    expect(field(mountpoint, 'OPTIONS').split(',')).to.include.members([
      'ro',
      'nosuid',
      'nodev',
      'noexec',
      `user_id=${NOBODY.uid}`,
    ]);
    expectRun(['umount', mountpoint], NOBODY);
    expect(daemons(mountpoint)).to.deep.equal([]);
  });

  it('is reached without helpers, too, by what fuse3 has for all file systems', () => {
    const mountpoint = scratch.subdir();
    defer(() => void bare.run(['umount', '--lazy', '--quiet', mountpoint]));
    bare.fstab(`${imagePath(image)} ${mountpoint} ${TYPE} ro,nofail,secret-file=${plainSecret} 0 0`);
    for (const command of [
      ['mount', '-a'],
      ['umount', mountpoint],
    ]) {
      const { status, stderr } = bare.run(command);
      expect(stderr).to.equal('');
      expect(status).to.equal(0);
      const shown = bare
        .run(['findmnt', '-n', '-o', 'FSTYPE,SOURCE', '--mountpoint', mountpoint])
        .stdout.trim();
      expect(shown).to.equal(command[0] === 'mount' ? `${TYPE} ${imagePath(image)}` : '');
    }
  });
});
