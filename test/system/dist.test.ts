/** What is given to others: made of two clones in different places, with another umask, at another time. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY } from '../support/users.js';
import { cloneHere, digest, filesBelow, runAsNobody, treeOf } from './support.js';

const VERSION = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version as string;

describe('make install, deb and dist', function () {
  this.timeout(600_000);
  const scratch = useScratch();
  const first = scratch.path('first');
  const second = scratch.path('another place/below a longer name');
  const products = (clone: string): string[] =>
    filesIn(path.join(clone, 'dist')).filter((name) => /\.(deb|t?gz)$/.test(name));
  const product = (ending: string): string =>
    path.join(first, 'dist', products(first).find((name) => name.endsWith(ending))!);
  let home = '';

  before(() => {
    fs.chmodSync(scratch.dir, 0o755);
    home = scratch.subdir();
    fs.chownSync(home, NOBODY.uid, NOBODY.gid);
    cloneHere(first);
    make(first, '022', 'UTC', 'deb', 'dist');
    fs.mkdirSync(path.dirname(second));
    // The first build took long enough for other time stamps. The umask applies to the copied packages, as for npm.
    const script = 'umask 077; git clone --quiet "$1" "$2"; cp -R "$1/node_modules" "$2/"';
    run('sh', ['-c', script, 'sh', first, second]);
    make(second, '077', 'Asia/Kathmandu', 'deb', 'dist');
  });

  it('make the same bytes wherever, whenever and with whatever umask', () => {
    const architecture = run('dpkg', ['--print-architecture']).trim();
    const names = [
      `qcow2fs-${VERSION}.tar.gz`,
      `qcow2fs-${VERSION}.tgz`,
      `qcow2fs_${VERSION}-1_${architecture}.deb`,
    ];
    for (const clone of [first, second]) expect(products(clone)).to.deep.equal(names);
    const digests = (clone: string): string[] => names.map((name) => digest(path.join(clone, 'dist', name)));
    expect(digests(second)).to.deep.equal(digests(first));
  });

  it('ship as sources exactly what the last commit has', () => {
    const packed = run('tar', ['-tzf', product('.tar.gz')])
      .trim()
      .split('\n');
    const files = packed
      .filter((name) => !name.endsWith('/'))
      .map((name) => name.replace(`qcow2fs-${VERSION}/`, ''));
    expect(files.sort()).to.deep.equal(run('git', ['ls-files'], { cwd: first }).trim().split('\n').sort());
  });

  it('ship for npm what the program needs, and no more', () => {
    const packed = run('tar', ['-tzf', product('.tgz')])
      .trim()
      .split('\n')
      .sort();
    const expected =
      /^package\/(bin\/qcow2fs|dist\/app\/.*|dist\/completion\/[^/]*qcow2fs[^/]*|contrib\/(docs|man|mount|schema|systemd)\/.*|package\.json|LICENSE|(README|ARCHITECTURE|CHANGELOG|CONTRIBUTING|SECURITY)\.md)$/;
    expect(packed.filter((name) => !expected.test(name))).to.deep.equal([]);
    expect(packed).to.include.members([
      'package/bin/qcow2fs',
      'package/dist/app/cli/main.js',
      'package/LICENSE',
    ]);
    expect(packed).to.include.members(
      filesIn(path.join(first, 'dist/app')).map((name) => `package/dist/app/${name}`),
    );
  });

  it('say where they put things, and take them away again', () => {
    const system = scratch.subdir();
    fs.mkdirSync(path.join(system, 'usr/bin'), { recursive: true });
    const before = treeOf(system);
    const places = [`DESTDIR=${system}`, 'PREFIX=/usr'];
    make(first, '022', 'UTC', 'install', ...places);
    expect(run(path.join(system, 'usr/bin/qcow2fs'), ['--version'])).to.equal(`${VERSION}\n`);
    make(first, '022', 'UTC', 'uninstall', ...places);
    expect(treeOf(system)).to.deep.equal(before);
  });

  it('install below the home directory of an ordinary user', () => {
    const before = treeOf(home);
    const installer = path.join(first, 'contrib/build/install');
    runAsNobody(home, installer, '', `${home}/.local`);
    const image = path.join(first, 'contrib/example/example.qcow2');
    expect(runAsNobody(home, `${home}/.local/bin/qcow2fs`, 'info', image)).to.contain('LUKS');
    runAsNobody(home, installer, '--undo', '', `${home}/.local`);
    expect(treeOf(home)).to.deep.equal(before);
  });

  const npmInstall = [
    'install',
    '--global',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--prefer-offline',
    // The configuration of root does not apply to ordinary users, who would download the headers.
    ...headers(),
  ];

  it('install by npm for an ordinary user, with the manual pages', () => {
    const prefix = path.join(home, 'npm');
    const tarball = scratch.path('public.tgz');
    fs.copyFileSync(product('.tgz'), tarball);
    runAsNobody(home, 'npm', ...npmInstall, '--prefix', prefix, tarball);
    expect(runAsNobody(home, path.join(prefix, 'bin/qcow2fs'), '--version')).to.equal(`${VERSION}\n`);
    // npm packs no links, which are second names of pages.
    const isLink = (page: string): boolean =>
      fs.lstatSync(path.join(ROOT, 'contrib/man', page)).isSymbolicLink();
    const pages = [1, 8]
      .flatMap((section) => filesBelow('contrib/man', new RegExp(`\\.${section}$`)))
      .filter((page) => !isLink(page));
    expect(pages).to.have.length.above(8);
    expect(
      pages.filter((page) => !fs.existsSync(path.join(prefix, `share/man/man${page.at(-1)}`, page))),
    ).to.deep.equal([]);
  });

  it('install by npm for root', () => {
    const prefix = scratch.subdir();
    run('npm', [...npmInstall, '--prefix', prefix, product('.tgz')], { cwd: scratch.dir });
    expect(run(path.join(prefix, 'bin/qcow2fs'), ['--version'])).to.equal(`${VERSION}\n`);
  });
});

function make(clone: string, umask: string, zone: string, ...args: string[]): void {
  const env = { ...process.env, TZ: zone, NODE_ENV: '' };
  // A make that runs the tests hands its own options on.
  for (const name of ['MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'SOURCE_DATE_EPOCH', 'NODE_ENV', 'TESTS']) {
    delete (env as NodeJS.ProcessEnv)[name];
  }
  run('sh', ['-c', `umask ${umask}; exec make "$@"`, 'make', ...args], { cwd: clone, env });
}

/** The option for the directory with the headers of Node.js, if npm is configured with one here. */
function headers(): string[] {
  const nodedir = run('npm', ['config', 'get', 'nodedir']).trim();
  return path.isAbsolute(nodedir) ? [`--nodedir=${nodedir}`] : [];
}

function filesIn(directory: string): string[] {
  const names = fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  return names.filter((name) => fs.statSync(path.join(directory, name)).isFile());
}
