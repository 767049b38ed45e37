/** Every command of README.md and of the guide, run as written, in a directory with the files that they name. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { applyOptionLists, parseAccess } from '../../src/cli/mount-options.js';
import { mountTable } from '../../src/host/mounts.js';
import { BIN, expectQcow2fs, ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const PAGES = ['README.md', 'contrib/docs/guide.md'];
const EXAMPLE = path.join(ROOT, 'contrib', 'example');

/** Kernels that are built without partition tables scan none: partx tells them. */
const LOSETUP = `#!/bin/sh
loop=$(/usr/sbin/losetup "$@") || exit
case " $* " in *" --partscan "*) [ -e "\${loop}p1" ] || partx --add "$loop" >&2 ;; esac
[ -z "$loop" ] || echo "$loop"
`;

for (const page of PAGES)
  describe(page, () => {
    const text = fs.readFileSync(path.join(ROOT, page), 'utf8');
    const scratch = useScratch();
    const work = scratch.subdir();
    const env = {
      ...process.env,
      LC_ALL: 'C',
      PATH: `${scratch.path('bin')}:${process.env['PATH']}:/usr/sbin:/sbin`,
    };

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

    for (const [, language, block] of text.matchAll(/^```(\w*)\n(.*?)^```$/gms)) {
      const title = block!.split('\n').find((line) => line.includes('qcow2fs'));
      if (language === 'console') {
        it(`shows what is printed by: ${title}`, () => {
          expect(replay(block!, work, env)).to.equal(oneBlank(block!));
        });
      } else {
        it(`runs: ${title}`, () => {
          const output = run('sh', ['-eux'], { cwd: work, env, input: block! });
          if (block!.includes('\nls ')) expect(output).to.match(/disk\.raw|welcome\.txt/);
          if (block!.includes('fdisk -l')) expect(output).to.contain('Linux filesystem');
        });
      }
    }

    it('has words of -o that the program understands', () => {
      const lists = [...text.matchAll(/^ {4}(?:\S+ +\S+ +fuse\.qcow2fs +|OPTIONS=)(\S+)/gm)];
      expect(lists).to.not.have.lengthOf(0);
      for (const [, list] of lists) parseAccess(applyOptionLists({ option: [list!] }));
    });
  });

/** Runs the commands of a session, which are behind `$`, and returns the session with what they print now. */
function replay(session: string, cwd: string, env: NodeJS.ProcessEnv): string {
  const commands = [...session.matchAll(/^\$ (.*)$/gm)].map(([, command]) => command!);
  const printed = commands.map(
    (command) => `$ ${command}\n${run('sh', ['-euc', `exec 2>&1; ${command}`], { cwd, env })}`,
  );
  return oneBlank(printed.join(''));
}

/** Columns are separated by tabs in some programs, and by blanks in the page. */
function oneBlank(text: string): string {
  return text.replaceAll(/[ \t]+/g, ' ');
}

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
