/** The command line: what makes no sense is told in one line with status 2; help; output that cannot be written. */

import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import { createImage, imagePath, MiB } from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { daemonsOf, mountsAt } from '../support/processes.js';
import { BIN, expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { expectRefused } from '../support/refusals.js';
import { useScratch } from '../support/scratch.js';

describe('a command line that makes no sense', () => {
  const scratch = useScratch();
  let image: string;
  let mountpoint: string;

  before(() => {
    image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    mountpoint = scratch.subdir();
  });
  const fill = (args: readonly string[]): string[] =>
    args.map((word) => ({ IMG: image, MNT: mountpoint })[word] ?? word);
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
    ...(['mount', 'check', 'map', 'hash'] as const).map(
      (command) =>
        [
          `${command} --backing-format vmdk`,
          [command, '--backing-format', 'vmdk', 'IMG', ...(command === 'mount' ? ['-r', 'MNT'] : [])],
          ['vmdk', 'qcow2 or raw'],
        ] as const,
    ),
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
    it(`is refused: ${title}`, async () => {
      const [command, ...rest] = fill(args);
      // Only the command itself can refuse these in process: a daemon is one of its own.
      const filled = command === 'mount' ? [command, '-f', ...rest] : fill(args);
      expectRefused(await runInProcess(filled), 'usage', words);
    });
  }

  it('is refused: options after -o that contradict each other', async () => {
    for (const [words, named] of [
      ['ro,overlay=temp', '--overlay'],
      ['overlay=temp,snapshot=x', '--overlay'],
      ['ro,resizable', '--resizable'],
      ['snapshot=x,resizable', '--resizable'],
      ['force-share', '--force-share'],
      ['backing-format=qcow2', '--backing-format'],
      ['ignore-locks', '--ignore-locks'],
    ] as const) {
      const { status, stderr } = await runInProcess(['-f', image, mountpoint, '-o', words]);
      expect(status, words).to.equal(2);
      expect(stderr, words).to.match(/^qcow2fs: [^\n]*\n$/);
      expect(stderr, words).to.contain(named);
    }
  });

  it('is refused in the background, where the daemon looks at the rest of it', () => {
    for (const [args, words] of [
      [
        ['mount', '--read-onyl', 'IMG', 'MNT'],
        ['--read-onyl', '--read-only'],
      ],
      [['mount', '-r', '--threads=0', 'IMG', 'MNT'], ['--threads']],
      [['IMG', 'MNT', '-o', 'ro,colour=blue'], ['colour=blue']],
    ] as const) {
      expectRefused(qcow2fs(fill(args)), 'usage', words);
    }
  });

  it('is refused when there is nothing on it, with a hint', async () => {
    const { status, stdout, stderr } = await runInProcess([]);
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
    it(`of "${args.join(' ')}" goes to standard output with status 0`, async () => {
      const { status, stdout, stderr } = await runInProcess(args);
      expect(status).to.equal(0);
      expect(stderr).to.equal('');
      expect(stdout).to.contain('Usage: qcow2fs');
    });
  }

  for (const command of ['mount', 'umount', 'list', 'info', 'check', 'map', 'hash']) {
    it(`of ${command} has examples`, async () => {
      expect(await expectInProcess(['help', command])).to.match(/\nExamples:\n {2}qcow2fs /);
    });
  }

  it('of a command that does not exist is refused', async () => {
    expect(await runInProcess(['help', 'chekc'])).to.include({ status: 2, stdout: '' });
    expect((await runInProcess(['help', 'chekc'])).stderr).to.match(
      /^qcow2fs: [^\n]*chekc[^\n]*Did you mean check[^\n]*\n$/,
    );
  });

  it('is not the version, which --version gives', () => {
    expect(expectQcow2fs(['--version'])).to.match(/^\d+\.\d+\.\d+\n$/);
  });
});
