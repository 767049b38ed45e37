/** What Tab proposes, asked of the shells themselves. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Command } from 'commander';
import { FLAG_WORDS, LIST_WORDS, VALUE_WORDS } from '../../src/cli/mount-options.js';
import { buildProgram } from '../../src/cli/program.js';
import { ALGORITHM_NAMES } from '../../src/hash/algorithms.js';
import { useCleanUp } from '../support/clean-up.js';
import { mountOn } from '../support/mounts.js';
import { ROOT } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';
import { type Completed, type Shell, startBash, startFish, startZsh } from '../support/shells.js';

const SHELLS = {
  bash: (dir: string, cwd: string) => startBash(dir, cwd, false),
  'bash with bash-completion': (dir: string, cwd: string) => startBash(dir, cwd, true),
  zsh: startZsh,
  fish: startFish,
} as const;

const program = buildProgram();
const commands = program.createHelp().visibleCommands(program);
const flagsOf = (command: Command): string[] =>
  command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ short, long }) => [short, long].filter((flag) => flag !== undefined));

for (const [name, start] of Object.entries(SHELLS)) {
  describe(`completion in ${name}`, function () {
    this.timeout(120_000);
    let shell: Shell | undefined;
    after(() => shell?.close());
    const scratch = useScratch();
    const defer = useCleanUp();
    const dir = scratch.subdir();
    const files = ['a,b.key', 'disk.qcow2', 'notes $x.txt', 'old.img', 'one\'s "own".raw'];

    before(async () => {
      for (const file of files) fs.writeFileSync(path.join(dir, file), '');
      fs.mkdirSync(path.join(dir, 'a dir'));
      fs.writeFileSync(path.join(dir, 'a dir', 'in it.qcow2'), '');
      shell = await start(scratch.subdir(), dir);
    });

    async function complete(line: string): Promise<Completed> {
      const completed = await shell!.complete(line);
      expect(completed.errors, line).to.equal('');
      return completed;
    }

    async function expectCandidates(line: string, expected: readonly string[]): Promise<void> {
      const { candidates } = await complete(line);
      expect([...candidates].sort(), line).to.deep.equal([...expected].sort());
    }

    /** Where the shell tells what becomes of the line; what goes away before the next word does not count. */
    async function expectLine(line: string, expected: string): Promise<void> {
      const completed = await complete(line);
      if (completed.line !== undefined) expect(completed.line.replace(/[ ,]+$/, ''), line).to.equal(expected);
    }

    it('proposes the commands', async () => {
      const names = commands.map((command) => command.name());
      await expectCandidates('qcow2fs ', names);
      await expectCandidates('qcow2fs help ', names);
      await expectCandidates('qcow2fs um', ['umount']);
      await expectCandidates('qcow2fs -', flagsOf(program));
    });

    for (const command of commands) {
      it(`proposes the options of ${command.name()}, and no others`, async () => {
        await expectCandidates(`qcow2fs ${command.name()} -`, flagsOf(command));
        const long = flagsOf(command).filter((flag) => flag.startsWith('--'));
        await expectCandidates(`qcow2fs ${command.name()} --`, long);
      });
    }

    it('knows aliases, and a mount that names no command', async () => {
      await expectCandidates('qcow2fs unmount --h', ['--help']);
      await expectCandidates('qcow2fs disk.qcow2 old.img --tr', ['--transport']);
      await expectCandidates('qcow2fs -r dis', ['disk.qcow2']);
      await expectCandidates('qcow2fs dis', ['disk.qcow2']);
    });

    const values: Record<string, readonly string[]> = {
      'mount --transport': ['kernel', 'libfuse'],
      'mount --secret-format': ['base64', 'raw'],
      'hash --backing-format': ['qcow2', 'raw'],
      'check --repair': ['all', 'leaks'],
      'map --output': ['human', 'json'],
      'hash --algorithm': ALGORITHM_NAMES,
      'mount --threads': [],
      'mount --name': [],
      'hash --piecewise': [],
      'check --allow-dir': ['a dir'],
    };
    it('proposes the values of options, behind a blank or =', async () => {
      for (const [option, words] of Object.entries(values)) {
        await expectCandidates(`qcow2fs ${option} `, words);
        const long = option.split(' ')[1];
        await expectCandidates(
          `qcow2fs ${option}=`,
          words.map((word) => `${long}=${word}`),
        );
      }
      await expectCandidates('qcow2fs mount --overlay te', ['temp']);
      await expectCandidates('qcow2fs mount --overlay di', ['disk.qcow2']);
    });

    it('goes on behind the commas of lists', async () => {
      const others = ALGORITHM_NAMES.filter((word) => word.startsWith('sha') && word !== 'sha256');
      // zsh shows words of a list by themselves.
      const { candidates } = await complete('qcow2fs hash --algorithm sha256,sha');
      expect(candidates.map((word) => word.replace('sha256,', '')).sort()).to.deep.equal([...others].sort());
      await expectLine('qcow2fs hash --algorithm=sha256,md', 'qcow2fs hash --algorithm=sha256,md5');
    });

    it('proposes the words of -o and their values', async () => {
      const words = Object.keys({ ...FLAG_WORDS, ...VALUE_WORDS, ...LIST_WORDS });
      await expectCandidates('qcow2fs mount -o ', words);
      await expectCandidates('qcow2fs mount -ro ', words);
      const { candidates } = await complete('qcow2fs mount -o resizable,re');
      expect(candidates.map((word) => word.replace('resizable,', ''))).to.deep.equal(['read-only']);
      await expectCandidates('qcow2fs mount -o ro,transport=k', ['ro,transport=kernel']);
      await expectCandidates('qcow2fs disk.qcow2 mnt -o ro,secret-file=di', ['ro,secret-file=disk.qcow2']);
      await expectCandidates('qcow2fs mount -o ro,allow-dir=', ['ro,allow-dir=a dir']);
    });

    it('keeps a comma in a value of -o for the program', async () => {
      await expectCandidates('qcow2fs mount -o ro,log=a', ['ro,log=a dir', 'ro,log=a\\,b.key']);
      await expectCandidates('qcow2fs mount -o ro,log=a\\\\,b', ['ro,log=a\\,b.key']);
      await expectCandidates('qcow2fs mount -o log=a\\\\,b.key,tr', ['log=a\\,b.key,transport']);
    });

    it('proposes files, those called like images first', async () => {
      const all = [...files, 'a dir'];
      const { candidates } = await complete('qcow2fs info ');
      expect([...candidates].sort()).to.deep.equal([...all].sort());
      expect(candidates.slice(0, 2).sort()).to.deep.equal(['disk.qcow2', 'old.img']);
      await expectCandidates('qcow2fs mount disk.qcow2 ', all);
      await expectCandidates('qcow2fs mount --log ', all);
      // Where there is no argument to come, zsh proposes options.
      for (const line of ['qcow2fs mount --log x disk.qcow2 old.img ', 'qcow2fs list ']) {
        const options = (await complete(line)).candidates.filter((word) => !word.startsWith('-'));
        expect(options, line).to.deep.equal([]);
      }
      await expectCandidates('qcow2fs hash --secret-file=disk.qcow2=a,', [
        '--secret-file=disk.qcow2=a,b.key',
      ]);
    });

    it('keeps blanks and special characters', async () => {
      await expectCandidates('qcow2fs info a\\ dir/', ['a dir/in it.qcow2']);
      await expectCandidates("qcow2fs info 'a dir/i", ['a dir/in it.qcow2']);
      await expectCandidates('qcow2fs info one', ['one\'s "own".raw']);
      await expectLine('qcow2fs info a\\ dir/in', 'qcow2fs info a\\ dir/in\\ it.qcow2');
      await expectLine('qcow2fs info "a dir/in', 'qcow2fs info "a dir/in it.qcow2"');
      await expectLine('qcow2fs info one', 'qcow2fs info one\\\'s\\ \\"own\\".raw');
      await expectLine('qcow2fs mount --log=no', 'qcow2fs mount --log=notes\\ \\$x.txt');
      await expectLine('qcow2fs mount --log "notes ', 'qcow2fs mount --log "notes \\$x.txt"');
      await expectLine('qcow2fs mount --allow-dir a', 'qcow2fs mount --allow-dir a\\ dir/');
    });

    if (name.startsWith('bash')) {
      it('shows after a second Tab only what differs', async () => {
        fs.writeFileSync(path.join(dir, 'a dir', 'in the way.img'), '');
        defer(() => fs.rmSync(path.join(dir, 'a dir', 'in the way.img')));
        const files = await complete('qcow2fs info a\\ dir/in\\ \t');
        expect(files.shown).to.match(/^in it\.qcow2 +in the way\.img\s*$/m);
        const list = await complete('qcow2fs hash --algorithm sha256,\t');
        expect(list.shown).to.match(/^blake2b512 +md5 +sha1 /m);
        const words = await complete('qcow2fs mount -o ro,allow-\t');
        expect(words.shown).to.match(/^allow-dir= +allow-other\s*$/m);
      });
    }

    it('leaves the targets of redirections alone', async () => {
      await expectCandidates('qcow2fs hash disk.qcow2 > di', ['disk.qcow2']);
      await expectCandidates('qcow2fs hash --tag 2>/dev/null disk.qcow2 >> old', ['old.img']);
      await expectLine('qcow2fs hash >/dev/null di', 'qcow2fs hash >/dev/null disk.qcow2');
      await expectLine('qcow2fs info disk.qcow2 >di', 'qcow2fs info disk.qcow2 >disk.qcow2');
    });

    it('proposes only arguments after --', async () => {
      await expectCandidates('qcow2fs mount -- -', []);
      await expectCandidates('qcow2fs mount -- --lo', []);
      await expectCandidates('qcow2fs info -- dis', ['disk.qcow2']);
      await expectCandidates('qcow2fs help -- ma', ['map']);
      await expectCandidates('qcow2fs info -- -x dis', []);
    });

    it('proposes for umount what is mounted', async () => {
      const mountpoint = path.join(dir, 'a dir', 'the "disk" 40');
      fs.mkdirSync(mountpoint);
      defer(() => fs.rmSync(`${mountpoint}.log`, { force: true }));
      defer(() => fs.rmdirSync(mountpoint));
      const example = path.join(ROOT, 'contrib', 'example');
      const secret = scratch.path('secret');
      fs.copyFileSync(path.join(example, 'secret'), secret);
      fs.chmodSync(secret, 0o600);
      mountOn(defer, path.join(example, 'example.qcow2'), mountpoint, ['--secret-file', secret]);
      expect((await complete('qcow2fs umount ')).candidates).to.include(mountpoint);
      await expectCandidates(`qcow2fs umount ${dir}/`, [mountpoint]);
      await expectCandidates('qcow2fs umount a', ['a dir/the "disk" 40']);
      await expectCandidates('qcow2fs unmount a\\ dir/t', ['a dir/the "disk" 40']);
      await expectCandidates('qcow2fs umount ./', ['./a dir/the "disk" 40']);
      await expectCandidates('qcow2fs umount zz', []);
      await expectLine('qcow2fs umount a', 'qcow2fs umount a\\ dir/the\\ \\"disk\\"\\ 40');
      await expectLine('qcow2fs umount "a', 'qcow2fs umount "a dir/the \\"disk\\" 40"');
    });
  });
}
