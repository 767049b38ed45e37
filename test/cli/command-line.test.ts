/** The command line: what makes no sense is told in one line with status 2; the short form; help. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { createImage, imagePath, MiB, takeSnapshot, writeSecret, writeSteps } from '../support/images.js';
import { daemonsOf, endMount, mountsAt } from '../support/mounts.js';
import { BIN, expectQcow2fs, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { expectRefused } from '../support/refusals.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

describe('a command line that makes no sense', () => {
  const scratch = useScratch();
  let image: string;
  let mountpoint: string;

  before(() => {
    image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    mountpoint = scratch.subdir();
  });
  afterEach(() => {
    expect(mountsAt(mountpoint)).to.deep.equal([]);
    // One may have been started before anybody looked at the arguments.
    expect(daemonsOf(mountpoint)).to.deep.equal([]);
  });

  const cases: readonly (readonly [title: string, args: readonly string[], words: readonly string[]])[] = [
    ['an unknown command, with a suggestion', ['mont'], ["'mont'", 'Did you mean mount?']],
    ['an unknown command that resembles none', ['frobnicate'], ["'frobnicate'", 'see: qcow2fs --help']],
    [
      'an unknown option, with a suggestion',
      ['mount', '--read-onyl', 'IMG', 'MNT'],
      ['--read-onyl', '--read-only'],
    ],
    ['an unknown option of list', ['list', '--yaml'], ['--yaml']],
    [
      'an option of other commands',
      ['map', '--secret-file=key', 'disk.qcow2'],
      ["'--secret-file=key' (an option of mount, hash); see: qcow2fs map --help"],
    ],
    ['mount without arguments', ['mount'], ['IMAGE', 'see: qcow2fs mount --help']],
    ['mount without a mountpoint', ['mount', 'IMG'], ['MOUNTPOINT']],
    ['mount with too many arguments', ['mount', '-r', 'IMG', 'MNT', 'more'], ['arguments']],
    ['the short form without a mountpoint', ['IMG'], ['MOUNTPOINT']],
    ['umount without a mountpoint', ['umount'], ['MOUNTPOINT']],
    ['info without an image', ['info'], ['IMAGE']],
    ['list with an argument', ['list', 'IMG'], ['arguments', 'see: qcow2fs list --help']],
    ['an option without its value', ['mount', 'IMG', 'MNT', '--threads'], ['--threads']],
    ...['0', '65', '-1', '1.5', 'many', '', '1e1', '0x2', ' 2'].map(
      (threads) =>
        [
          `--threads "${threads}"`,
          ['mount', '-r', `--threads=${threads}`, 'IMG', 'MNT'],
          ['--threads'],
        ] as const,
    ),
    [
      '--transport pigeon',
      ['mount', '-r', '--transport', 'pigeon', 'IMG', 'MNT'],
      ['pigeon', 'kernel or libfuse'],
    ],
    [
      '--secret-format hex',
      ['mount', '-r', '--secret-format', 'hex', 'IMG', 'MNT'],
      ['hex', 'raw or base64'],
    ],
    ...['', '.', '..', 'a/b', 'x'.repeat(256), 'ä'.repeat(128)].map(
      (name) =>
        [
          `--name "${name.slice(0, 9)}"`,
          ['mount', '-r', `--name=${name}`, 'IMG', 'MNT'],
          ['--name'],
        ] as const,
    ),
    ['an unknown word after -o', ['mount', 'IMG', 'MNT', '-o', 'ro,colour=blue'], ['colour=blue']],
    ['a word after -o that lacks its value', ['mount', 'IMG', 'MNT', '-o', 'ro,name'], ['name=VALUE']],
    [
      'a word after -o with an empty value',
      ['mount', 'IMG', 'MNT', '-o', 'ro,secret-file='],
      ['secret-file=VALUE'],
    ],
    ['a word after -o that takes no value', ['mount', 'IMG', 'MNT', '-o', 'ro=yes'], ['ro=yes', 'no value']],
    ['bad threads after -o', ['mount', 'IMG', 'MNT', '-o', 'ro,threads=0'], ['threads']],
  ];
  for (const [title, args, words] of cases) {
    it(`is refused: ${title}`, () => {
      const filled = args.map((word) => ({ IMG: image, MNT: mountpoint })[word] ?? word);
      expectRefused(qcow2fs(filled), 'usage', words);
    });
  }

  it('is refused when there is nothing on it, with a hint', () => {
    const { status, stdout, stderr } = qcow2fs([]);
    expect(status).to.equal(2);
    expect(stdout + stderr).to.contain('mount');
  });
});

describe('standard output that cannot be written', () => {
  const scratch = useScratch();

  it('is told, with status 3, however little there is to write', () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    for (const args of [
      '--help',
      '--version',
      'list',
      `info ${image}`,
      `check ${image}`,
      `map ${image}`,
      `hash ${image}`,
    ]) {
      const { status, stderr } = spawnSync('sh', ['-c', `${BIN} ${args} > /dev/full`], { encoding: 'utf8' });
      expect(status, args).to.equal(3);
      expect(stderr, args).to.match(/^qcow2fs: standard output: ENOSPC[^\n]*\n$/);
    }
  });

  it('ends the program quietly when nobody reads it any more', () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    const { stderr, stdout } = spawnSync(
      'bash',
      ['-c', `${BIN} map --output=json ${image} | true; echo \${PIPESTATUS[0]}`],
      {
        encoding: 'utf8',
      },
    );
    expect(stderr).to.equal('');
    expect(['0', '141']).to.include(stdout.trim());
  });
});

describe('the help', () => {
  for (const args of [
    ['--help'],
    ['-h'],
    ['mount', '--help'],
    ['umount', '--help'],
    ['list', '-h'],
    ['info', '-h'],
    ['check', '--help'],
    ['map', '--help'],
    ['hash', '--help'],
    ['help', 'check'],
  ]) {
    it(`of "${args.join(' ')}" goes to standard output with status 0`, () => {
      const { status, stdout, stderr } = qcow2fs(args);
      expect(status).to.equal(0);
      expect(stderr).to.equal('');
      expect(stdout).to.contain('Usage: qcow2fs');
    });
  }

  for (const command of ['mount', 'umount', 'list', 'info', 'check', 'map', 'hash']) {
    it(`of ${command} has examples`, () => {
      expect(expectQcow2fs(['help', command])).to.match(/\nExamples:\n {2}qcow2fs /);
    });
  }

  it('of a command that does not exist is refused', () => {
    expect(qcow2fs(['help', 'chekc'])).to.include({ status: 2, stdout: '' });
    expect(qcow2fs(['help', 'chekc']).stderr).to.match(
      /^qcow2fs: [^\n]*chekc[^\n]*Did you mean check[^\n]*\n$/,
    );
  });

  it('is not the version, which --version gives', () => {
    expect(expectQcow2fs(['--version'])).to.match(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('the short form', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  let plain: string;
  let plainHash: string;
  let luks: string;
  let key: string;
  let mountpoint: string;

  before(() => {
    const made = createImage(dir, { size: MiB });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
    plainHash = takeSnapshotHash(made);
    plain = imagePath(made);
    const secret = writeSecret(dir, 'open, sesame', 'secret, file');
    key = secret.file;
    // QEMU takes a comma in a secret's file name doubled.
    const forQemu = { ...secret, file: secret.file.replaceAll(',', ',,') };
    fs.writeFileSync(path.join(dir, 'plain-secret'), 'open, sesame');
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const usable = { ...forQemu, file: path.join(dir, 'plain-secret') };
    luks = imagePath(createImage(dir, { name: 'luks.qcow2', size: MiB, secret: usable, encryption }));
  });
  beforeEach(() => {
    mountpoint = scratch.subdir();
    defer(() => endMount(mountpoint));
  });

  function takeSnapshotHash(made: Parameters<typeof takeSnapshot>[0]): string {
    const { expected } = takeSnapshot(made, 'first', '1');
    return sha256(expected);
  }

  function expectMounted({ status, stderr }: Outcome, file = 'disk.raw'): string {
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
    expect(fs.readdirSync(mountpoint)).to.deep.equal([file]);
    return path.join(mountpoint, file);
  }

  it('mounts with the words of -o', () => {
    const disk = expectMounted(qcow2fs([plain, mountpoint, '-o', 'ro']));
    expect(sha256(disk)).to.equal(plainHash);
  });

  it('takes every option as a word, commas behind a backslash', () => {
    const words = [
      'ro',
      `secret-file=${key.replaceAll(',', '\\,')}`,
      'secret_format=raw',
      'name=a\\,b.img',
      'threads=3',
      'transport=kernel',
      `log=${dir}/log`,
      `allow-dir=${dir}`,
      'allow_other',
    ];
    expectMounted(qcow2fs([luks, mountpoint, '-o', words.join(',')]), 'a,b.img');
    const listed = JSON.parse(expectQcow2fs(['list', '--json'])).mounts as Record<string, unknown>[];
    expect(listed.find((entry) => entry['mountpoint'] === mountpoint)).to.include({
      disk: path.join(mountpoint, 'a,b.img'),
      threads: 3,
      transport: 'kernel',
      log: `${dir}/log`,
    });
  });

  it('takes the options before the arguments, and in several lists', () => {
    const disk = expectMounted(qcow2fs(['-o', 'ro', plain, '-o', 'name=x,snapshot=first', mountpoint]), 'x');
    expect(sha256(disk)).to.equal(plainHash);
  });

  it('accepts what fstab and mount(8) add: defaults, nofail, x-systemd and the like', () => {
    const words =
      'ro,defaults,noauto,user,nofail,_netdev,dev,suid,exec,relatime,x-systemd.automount,comment=x';
    expectMounted(qcow2fs([plain, mountpoint, '-o', words]));
  });

  it('is what mount(8) calls, through mount.fuse3, for the type fuse.qcow2fs', () => {
    const bin = scratch.path('bin');
    fs.mkdirSync(bin);
    fs.symlinkSync(BIN, path.join(bin, 'qcow2fs'));
    const options = `ro,secret-file=${path.join(dir, 'plain-secret')}`;
    const script = 'PATH="$1:$PATH" mount.fuse3 "$3" "$4" -t fuse.qcow2fs -o "$2"';
    tool('sh', '-c', script, 'sh', bin, options, luks, mountpoint);
    expect(fs.readdirSync(mountpoint)).to.deep.equal(['disk.raw']);
    tool('umount', mountpoint);
    expect(mountsAt(mountpoint)).to.deep.equal([]);
  });

  it('without -r or ro mounts a disk that can be written', () => {
    const { status, stderr } = qcow2fs([plain, mountpoint]);
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    const fd = fs.openSync(path.join(mountpoint, 'disk.raw'), 'r+');
    fs.closeSync(fd);
  });

  it('refuses options that contradict each other, in one line', () => {
    for (const [words, named] of [
      ['ro,overlay=temp', '--overlay'],
      ['overlay=temp,snapshot=x', '--overlay'],
      ['ro,resizable', '--resizable'],
      ['snapshot=x,resizable', '--resizable'],
      ['force-share', '--force-share'],
    ] as const) {
      const { status, stderr } = qcow2fs([plain, mountpoint, '-o', words]);
      expect(status, words).to.equal(2);
      expect(stderr, words).to.match(/^qcow2fs: [^\n]*\n$/);
      expect(stderr, words).to.contain(named);
    }
  });
});
