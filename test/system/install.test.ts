/** Installing and uninstalling, as `make install` and `make uninstall` do it, of the program as it is built here. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mountsAt } from '../support/mounts.js';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { filesBelow, treeOf } from './support.js';

const INSTALL = path.join(ROOT, 'contrib/build/install');
const VERSION = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version as string;
const EXAMPLE = path.join(ROOT, 'contrib/example/example.qcow2');

function install(destdir: string, prefix: string, umask = '022'): void {
  run('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', INSTALL, destdir, prefix]);
}

function uninstall(destdir: string, prefix: string): string {
  const { status, stdout, stderr } = spawnSync(INSTALL, ['--undo', destdir, prefix], { encoding: 'utf8' });
  expect(status).to.equal(0);
  return stdout + stderr;
}

/** A system with files of others, empty directories, and links that lead elsewhere. */
function makeUsedSystem(top: string, prefix: string): void {
  for (const name of ['bin', 'lib', 'share/doc', 'share/fish/vendor_completions.d', 'share/man/man1']) {
    fs.mkdirSync(path.join(top, prefix, name), { recursive: true });
  }
  fs.writeFileSync(path.join(top, prefix, 'bin/other'), 'of somebody else');
  fs.writeFileSync(path.join(top, prefix, 'share/man/man1/other.1'), 'a page');
  fs.symlinkSync('other', path.join(top, prefix, 'bin/link'));
  fs.mkdirSync(path.join(top, 'elsewhere'));
  fs.symlinkSync('/nowhere', path.join(top, 'elsewhere/dangling'));
}

describe('installing and uninstalling', function () {
  this.timeout(120_000);
  const scratch = useScratch();

  it('are mirror images on a system that has other files, and open to everybody, whatever the umask', () => {
    const modes = ['022', '077'].map((umask) => {
      const system = scratch.subdir();
      makeUsedSystem(system, 'usr/local');
      const before = treeOf(system);
      install(system, '/usr/local', umask);
      expect(run(path.join(system, 'usr/local/bin/qcow2fs'), ['--version'])).to.equal(`${VERSION}\n`);
      const installed = run('find', ['.', '-printf', '%p %m %l\n'], { cwd: path.join(system, 'usr/local') });
      expect(uninstall(system, '/usr/local')).to.equal('');
      expect(treeOf(system)).to.deep.equal(before);
      expect(uninstall(system, '/usr/local')).to.equal('');
      expect(treeOf(system)).to.deep.equal(before);
      return installed;
    });
    expect(modes[1]).to.equal(modes[0]);
    // Everybody can read and run it.
    expect(modes[1]).to.not.match(/ [0-7]*[0-3][0-7]$| [0-7]*[0-3]$/m);
  });

  it('leave nothing of a directory that was not there', () => {
    const system = scratch.path('a name with blanks');
    install(system, '/usr');
    expect(run(path.join(system, 'usr/bin/qcow2fs'), ['--version'])).to.equal(`${VERSION}\n`);
    uninstall(system, '/usr');
    expect(fs.existsSync(system)).to.equal(false);
  });

  it('can be repeated, and what an earlier version alone had goes away', () => {
    const system = scratch.subdir();
    makeUsedSystem(system, 'usr');
    const before = treeOf(system);
    install(system, '/usr');
    const installed = treeOf(system);
    const list = path.join(system, 'usr/lib/qcow2fs/installed');
    const stale = path.join(system, 'usr/lib/qcow2fs/old/stale.js');
    fs.mkdirSync(path.dirname(stale));
    fs.writeFileSync(stale, '');
    fs.appendFileSync(list, 'd /usr/lib/qcow2fs/old/\nf /usr/lib/qcow2fs/old/stale.js\n');
    install(system, '/usr');
    expect(treeOf(system)).to.deep.equal(installed);
    uninstall(system, '/usr');
    expect(treeOf(system)).to.deep.equal(before);
  });

  it('keep what others have put into directories that an installation made', () => {
    const system = scratch.subdir();
    install(system, '/usr');
    const foreign = path.join(system, 'usr/lib/qcow2fs/node_modules/note');
    fs.writeFileSync(foreign, 'mine');
    install(system, '/usr');
    uninstall(system, '/usr');
    expect(run('find', ['.', '-type', 'f'], { cwd: system })).to.equal(
      './usr/lib/qcow2fs/node_modules/note\n',
    );
  });

  it('are refused below a name that scripts and units could not hold', () => {
    const system = scratch.subdir();
    for (const prefix of ['/opt/a&b', '/opt/a b', '/opt/100%', '/opt/a\\b', '/', 'usr']) {
      const { status, stderr } = spawnSync(INSTALL, [system, prefix], { encoding: 'utf8' });
      expect([status, stderr.split('\n').length], prefix).to.deep.equal([1, 2]);
      expect(stderr)
        .to.match(/^install: PREFIX /)
        .and.contain(`'${prefix}'`);
      expect(fs.readdirSync(system)).to.deep.equal([]);
    }
  });

  it('overwrite no file of others, and then change nothing', () => {
    const system = scratch.subdir();
    fs.mkdirSync(path.join(system, 'usr/bin'), { recursive: true });
    fs.symlinkSync('/opt/qcow2fs', path.join(system, 'usr/bin/qcow2fs'));
    const before = treeOf(system);
    const { status, stderr } = spawnSync(INSTALL, [system, '/usr'], { encoding: 'utf8' });
    expect(status).to.equal(1);
    expect(stderr).to.contain(`${system}/usr/bin/qcow2fs is there already`);
    expect(treeOf(system)).to.deep.equal(before);
  });

  it('take back what was installed when something goes wrong', () => {
    const system = scratch.subdir();
    fs.mkdirSync(path.join(system, 'usr'));
    fs.writeFileSync(path.join(system, 'usr/share'), 'a file where a directory should be');
    const before = treeOf(system);
    expect(spawnSync(INSTALL, [system, '/usr']).status).to.not.equal(0);
    expect(treeOf(system)).to.deep.equal(before);
  });

  it('work where bin is a link to another directory', () => {
    const home = scratch.subdir();
    fs.mkdirSync(path.join(home, 'tools/bin'), { recursive: true });
    fs.mkdirSync(path.join(home, 'local'));
    fs.symlinkSync('../tools/bin', path.join(home, 'local/bin'));
    const before = treeOf(home);
    install('', path.join(home, 'local'));
    expect(run(path.join(home, 'tools/bin/qcow2fs'), ['--version'])).to.equal(`${VERSION}\n`);
    uninstall('', path.join(home, 'local'));
    expect(treeOf(home)).to.deep.equal(before);
  });
});

describe('what is installed', function () {
  this.timeout(120_000);
  const scratch = useScratch();
  const top = scratch.subdir();
  const place = (name: string): string => path.join(top, name);

  before(() => install('', top));

  it('has the pages, completions, units and the helper of mount(8) that the sources have', () => {
    const expected = [
      ...[1, 8].flatMap((section) =>
        filesBelow('contrib/man', new RegExp(`\\.${section}$`)).map(
          (name) => `share/man/man${section}/${name}`,
        ),
      ),
      ...filesBelow('contrib/mount', /mount\.fuse\.qcow2fs$/).map((name) => `sbin/${name}`),
      ...['system', 'user'].flatMap((kind) =>
        filesBelow(`contrib/systemd/${kind}`, /\.service$/).map((name) => `lib/systemd/${kind}/${name}`),
      ),
      ...filesBelow('dist/completion', /^qcow2fs\.bash$/).map(
        () => 'share/bash-completion/completions/qcow2fs',
      ),
      ...filesBelow('dist/completion', /^_qcow2fs$/).map((name) => `share/zsh/site-functions/${name}`),
      ...filesBelow('dist/completion', /\.fish$/).map((name) => `share/fish/vendor_completions.d/${name}`),
      ...filesBelow('contrib/docs', /\.md$/).map((name) => `share/doc/qcow2fs/contrib/docs/${name}`),
      'share/doc/qcow2fs/README.md',
    ];
    expect(expected.filter((name) => !fs.existsSync(place(name)))).to.deep.equal([]);
  });

  it('names in its units the program that was installed', () => {
    for (const kind of ['system', 'user']) {
      for (const name of filesBelow(`contrib/systemd/${kind}`, /\.service$/)) {
        const unit = fs.readFileSync(place(`lib/systemd/${kind}/${name}`), 'utf8');
        expect(
          unit.match(/\/\S*\/qcow2fs(?= )/g)?.filter((word) => word !== `${top}/bin/qcow2fs`),
        ).to.deep.equal([]);
      }
    }
  });

  it('has links in its documents that lead somewhere', () => {
    const readme = fs.readFileSync(place('share/doc/qcow2fs/README.md'), 'utf8');
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link]) => link!);
    expect(links).to.not.have.lengthOf(0);
    expect(links.filter((link) => !fs.existsSync(place(`share/doc/qcow2fs/${link}`)))).to.deep.equal([]);
  });

  it('has no sources, tests or leftovers of the build, and binaries for this machine alone', () => {
    const names = run('find', ['lib/qcow2fs', '-type', 'f'], { cwd: top }).trim().split('\n');
    const unwanted =
      /\.(ts|map|c|cc|h|gyp|dylib|tgz|log)$|\/(test|tests|example|\.bin)\/|darwin|musl|win32|electron/;
    expect(names.filter((name) => unwanted.test(name))).to.deep.equal([]);
    const parts = new Set(names.map((name) => name.split('/').slice(2, 3).join('/')));
    expect([...parts].sort()).to.deep.equal(['bin', 'dist', 'installed', 'node_modules', 'package.json']);
    expect(names.filter((name) => name.endsWith('.node'))).to.have.lengthOf(2);
  });

  for (const transport of ['kernel', 'libfuse']) {
    it(`mounts by the ${transport} transport`, () => {
      const mountpoint = scratch.subdir();
      const secret = scratch.path(`key-${transport}`);
      fs.writeFileSync(secret, fs.readFileSync(path.join(ROOT, 'contrib/example/secret')), { mode: 0o600 });
      const options = ['-r', '--transport', transport, '--secret-file', secret, '--log', scratch.path('log')];
      run(place('bin/qcow2fs'), ['mount', ...options, EXAMPLE, mountpoint]);
      expect(mountsAt(mountpoint)).to.deep.equal([mountpoint]);
      run(place('bin/qcow2fs'), ['umount', mountpoint]);
    });
  }
});
