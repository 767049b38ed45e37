/** The files of the completions: that shells can read them, that they are shipped, and what is refused when they are made. */
import path from 'node:path';
import { expect } from 'chai';
import type { Command } from 'commander';
import { buildProgram } from '../../src/cli/program.js';
import { describeProgram } from '../../src/completion/model.js';
import { withTables } from '../../src/completion/tables.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { COMPLETIONS } from '../support/shells.js';

const file = (name: string): string => path.join(COMPLETIONS, name);

describe('the files of the completions', () => {
  for (const [shell, name] of [
    ['bash', 'qcow2fs.bash'],
    ['zsh', '_qcow2fs'],
    ['fish', 'qcow2fs.fish'],
  ] as const) {
    it(`are good ${shell}`, () => {
      expect(run(shell, ['-n', file(name)])).to.equal('');
    });
  }

  it('leave shellcheck nothing to say', () => {
    expect(run('shellcheck', [file('qcow2fs.bash')])).to.equal('');
  });

  it('can be loaded under set -eu, and write nothing', () => {
    expect(run('bash', ['--norc', '-euc', '. "$1" 2>&1', 'bash', file('qcow2fs.bash')])).to.equal('');
    expect(run('fish', ['--no-config', '-c', 'source $argv[1] 2>&1', file('qcow2fs.fish')])).to.equal('');
    const script = 'autoload -Uz compinit && compinit -D -u && . $1 2>&1 && print -r -- $_comps[qcow2fs]';
    expect(run('zsh', ['-fc', script, 'zsh', file('_qcow2fs')])).to.equal('_qcow2fs\n');
  });

  it('are in the npm package', () => {
    const [packed] = JSON.parse(
      run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'], { cwd: ROOT }),
    ) as [{ files: { path: string }[] }];
    const names = packed.files
      .map((entry) => entry.path)
      .filter((name) => name.startsWith('dist/completion/'));
    expect(names.sort()).to.deep.equal([
      'dist/completion/_qcow2fs',
      'dist/completion/qcow2fs.bash',
      'dist/completion/qcow2fs.fish',
    ]);
  });
});

describe('the description for completions', () => {
  function withMount(change: (mount: Command) => void): Command {
    const program = buildProgram();
    change(program.commands.find((command) => command.name() === 'mount')!);
    return program;
  }

  it('tells where a value of an unknown kind is to be entered', () => {
    const refusal = /what is the value of "mount --colour"\? Add .* VALUES .*model\.ts: .*"<hue>"/;
    const program = withMount((mount) => mount.option('--colour <hue>'));
    expect(() => describeProgram(program)).to.throw(refusal);
    const other = buildProgram();
    other.command('turn').argument('KNOB');
    expect(() => describeProgram(other)).to.throw(/what is the value of "turn KNOB"\?/);
  });

  it('takes no value that may be left out, and no list of arguments', () => {
    for (const flags of ['--colour [file]', '--colour <file...>']) {
      const program = withMount((mount) => mount.option(flags));
      expect(() => describeProgram(program), flags).to.throw('mount --colour');
    }
  });

  it('misses a word of -o whose option is gone', () => {
    const program = withMount((mount) => {
      (mount.options as unknown[]).splice(
        mount.options.findIndex(({ long }) => long === '--loop'),
        1,
      );
    });
    expect(() => describeProgram(program)).to.throw('"-o loop"');
  });

  it('goes where an engine says', () => {
    expect(withTables('begin\n# TABLES\nend\n', ['x=1'])).to.match(/^begin\n# Made by .*\n\nx=1\nend\n$/);
    expect(() => withTables('begin\n', [])).to.throw('# TABLES');
  });
});
