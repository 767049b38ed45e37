/** Every command of README.md, run as written, in a directory with the files that it speaks of. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { EXIT_MEANINGS, EXIT_STATUS } from '../../src/cli/exit-status.js';
import { mountTable } from '../../src/host/mounts.js';
import { BIN, expectQcow2fs, ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const README = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
const EXAMPLE = path.join(ROOT, 'contrib', 'example');

/** Kernels that are built without partition tables scan none: partx tells them. */
const LOSETUP = `#!/bin/sh
loop=$(/usr/sbin/losetup "$@") || exit
case " $* " in *" --partscan "*) [ -e "\${loop}p1" ] || partx --add "$loop" >&2 ;; esac
[ -z "$loop" ] || echo "$loop"
`;

describe('README.md', () => {
  const scratch = useScratch();
  const work = scratch.subdir();
  const env = { ...process.env, PATH: `${scratch.path('bin')}:${process.env['PATH']}:/usr/sbin:/sbin` };

  // Blocks follow each other in one directory; a failed one must not stop the next.
  afterEach(() => {
    spawnSync('umount', ['-q', path.join(work, 'inside')]);
    for (const { mountpoint } of mountTable().filter((entry) => entry.mountpoint.startsWith(work))) {
      for (const loop of run('losetup', ['-n', '-O', 'NAME', '-j', `${mountpoint}/disk.raw`]).split('\n')) {
        if (loop !== '') spawnSync('losetup', ['--detach', loop]);
      }
      expectQcow2fs(['umount', mountpoint]);
    }
  });

  before(() => {
    fs.mkdirSync(scratch.path('bin'));
    fs.symlinkSync(BIN, scratch.path('bin/qcow2fs'));
    fs.writeFileSync(scratch.path('bin/losetup'), LOSETUP, { mode: 0o755 });
    fs.copyFileSync(path.join(EXAMPLE, 'example.qcow2'), path.join(work, 'luks.qcow2'));
    makePlainImage(work);
    fs.writeFileSync(path.join(work, 'new-boot-sector.bin'), Buffer.alloc(440, 0x90));
    const bases = path.join(scratch.dir, 'bases');
    fs.mkdirSync(bases);
    run('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(bases, 'base.qcow2'), '1M']);
    run(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-b', '../bases/base.qcow2', '-F', 'qcow2', 'overlay.qcow2'],
      {
        cwd: work,
      },
    );
  });

  for (const block of README.matchAll(/^```sh\n(.*?)^```$/gms)) {
    const script = block[1]!;
    it(`runs: ${script
      .trim()
      .split('\n')
      .find((line) => line.includes('qcow2fs'))}`, () => {
      const output = run('sh', ['-eux'], { cwd: work, env, input: script });
      if (script.includes('\nls ')) expect(output).to.match(/disk\.raw|welcome\.txt/);
      if (script.includes('fdisk -l')) expect(output).to.contain('Linux filesystem');
    });
  }

  // CONTRIBUTING.md: "For an option: its help, the table in README.md, the word of `-o` in
  // `src/cli/mount-options.ts`. Tests compare them."
  it('lists every option of mount, and no other', () => {
    const options = (text: string): string[] => [...new Set(text.match(/(?<=[\s`,])--[a-z][a-z-]+/g))].sort();
    const table = README.slice(README.indexOf('| option of `mount`'), README.indexOf('| exit status'));
    const help = expectQcow2fs(['mount', '--help']).split('Examples:')[0]!;
    expect(options(table)).to.deep.equal(
      options(help).filter((option) => !['--help', '--option'].includes(option)),
    );
  });

  it('lists every exit status with its meaning', () => {
    const table = README.slice(README.indexOf('| exit status |'));
    const listed = [...table.matchAll(/^\| (\d+) +\| (.*?) +\|$/gm)].map(([, status, meaning]) => [
      status,
      meaning,
    ]);
    expect(listed).to.deep.equal(Object.entries(EXIT_MEANINGS));
    const used = Object.values(EXIT_STATUS).filter((status) => status !== EXIT_STATUS['read-only']);
    expect(listed.map(([status]) => Number(status))).to.include.members(used);
  });

  // README.md: "`DEBUG=qcow2fs:*` traces what the program does; the areas are"
  it('names every area of traces', () => {
    const sources = path.join(ROOT, 'src');
    const areas = fs
      .readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .flatMap((name) => [
        ...fs.readFileSync(path.join(sources, name), 'utf8').matchAll(/createTrace\('([a-z]+)'\)/g),
      ])
      .map(([, area]) => area!);
    const said = /the areas are ([^.]*)\./.exec(README)![1]!.match(/[a-z]+(?=`)/g)!;
    expect(said).to.deep.equal([...new Set(areas)].sort());
  });
});

/** vm.qcow2: the disk of the example image, unencrypted, with a snapshot. */
function makePlainImage(directory: string): void {
  const encrypted = [
    'driver=qcow2',
    'encrypt.key-secret=key',
    `file.filename=${path.join(EXAMPLE, 'example.qcow2')}`,
  ].join(',');
  const secret = `secret,id=key,file=${path.join(EXAMPLE, 'secret')}`;
  const image = path.join(directory, 'vm.qcow2');
  run('qemu-img', ['convert', '--object', secret, '--image-opts', encrypted, '-O', 'qcow2', image]);
  run('qemu-img', ['snapshot', '-c', 'before-upgrade', image]);
}
