/** The Debian package: what is in it, what it depends on, what it says of itself. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { buildPackage, filesBelow } from './support.js';

const VERSION = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version as string;

describe('the Debian package', function () {
  this.timeout(120_000);
  const scratch = useScratch();
  const root = scratch.path('root');
  let deb = '';
  let entries: { mode: string; owner: string; name: string }[] = [];
  const field = (name: string): string => run('dpkg-deb', ['--field', deb, name]).trim();
  const readZipped = (name: string): string => run('gzip', ['-dc', path.join(root, name)]);

  before(() => {
    deb = buildPackage(scratch.path('out'));
    run('dpkg-deb', ['--raw-extract', deb, root]);
    const lines = run('dpkg-deb', ['--contents', deb]).trim().split('\n');
    entries = lines.map((line) => {
      const [mode, owner, , , , ...name] = line.split(/ +/);
      return { mode: mode!, owner: owner!, name: name.join(' ').split(' -> ')[0]!.slice(1) };
    });
  });

  it('is named by its version and architecture', () => {
    const architecture = run('dpkg', ['--print-architecture']).trim();
    expect(path.basename(deb)).to.equal(`qcow2fs_${VERSION}-1_${architecture}.deb`);
    expect([field('Version'), field('Architecture')]).to.deep.equal([`${VERSION}-1`, architecture]);
  });

  it('holds what is installed, each thing where Debian wants it', () => {
    const expected = [
      '/etc/qcow2fs/',
      '/usr/bin/qcow2fs',
      '/usr/lib/qcow2fs/bin/qcow2fs',
      '/usr/lib/qcow2fs/dist/app/cli/main.js',
      '/usr/share/doc/qcow2fs/changelog.Debian.gz',
      '/usr/share/doc/qcow2fs/changelog.gz',
      '/usr/share/doc/qcow2fs/copyright',
      ...[1, 8].flatMap((section) =>
        filesBelow('contrib/man', new RegExp(`\\.${section}$`)).map(
          (name) => `/usr/share/man/man${section}/${name}.gz`,
        ),
      ),
      ...filesBelow('contrib/mount', /mount\.fuse\.qcow2fs$/).map((name) => `/usr/sbin/${name}`),
      ...['system', 'user'].flatMap((kind) =>
        filesBelow(`contrib/systemd/${kind}`, /\.service$/).map((name) => `/usr/lib/systemd/${kind}/${name}`),
      ),
      ...filesBelow('dist/completion', /^_qcow2fs$/).map(
        (name) => `/usr/share/zsh/vendor-completions/${name}`,
      ),
    ];
    expect(entries.map(({ name }) => name)).to.include.members(expected);
    const places = /^\/(etc\/(qcow2fs\/)?|usr\/((bin|sbin|lib|share)\/.*)?)?$/;
    expect(entries.filter(({ name }) => !places.test(name))).to.deep.equal([]);
    expect(entries.some(({ name }) => name.endsWith('/installed'))).to.equal(false);
  });

  it('belongs to root, and nobody else may write', () => {
    expect(entries.filter(({ owner }) => owner !== 'root/root')).to.deep.equal([]);
    const usual = /^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx)$/;
    expect(entries.filter(({ mode }) => !usual.test(mode))).to.deep.equal([]);
  });

  it('depends on every library that its binaries are linked with', () => {
    const depends = field('Depends');
    expect(depends)
      .to.match(/\bnodejs \(>= 20\.19\)/)
      .and.to.match(/\bfuse3\b/);
    const koffi = entries.find(({ name }) => name.endsWith('/koffi.node'))!;
    const libraries = [...run('ldd', [path.join(root, koffi.name)]).matchAll(/=> (\/\S+)/g)].map(
      ([, file]) => file!,
    );
    expect(libraries.length).to.be.above(2);
    const packages = libraries.map((file) => packageOf(file));
    expect([...new Set(packages)].filter((name) => !depends.includes(name))).to.deep.equal([]);
  });

  it('tells the licence of every package that it ships', () => {
    const copyright = fs.readFileSync(path.join(root, 'usr/share/doc/qcow2fs/copyright'), 'utf8');
    const paragraphs = copyright.split('\n\n');
    const modules = path.join(root, 'usr/lib/qcow2fs/node_modules');
    for (const name of fs.readdirSync(modules)) {
      const own = paragraphs.find((text) => text.includes(`usr/lib/qcow2fs/node_modules/${name}/*`));
      expect(own, name).to.match(/^Copyright: /m);
      for (const license of /^License: (.*)$/m.exec(own!)![1]!.split(' and ')) {
        expect(copyright, name).to.match(new RegExp(`^License: ${license}\n [A-Z]`, 'm'));
      }
    }
  });

  it('has the right sums of all its files, and the size they take', () => {
    run('md5sum', ['--check', '--quiet', '--strict', 'DEBIAN/md5sums'], { cwd: root });
    const files = entries.filter(({ mode }) => mode.startsWith('-'));
    const sums = fs.readFileSync(path.join(root, 'DEBIAN/md5sums'), 'utf8').trim().split('\n');
    expect(sums).to.have.lengthOf(files.length);
    const bytes = files.reduce((sum, { name }) => sum + fs.statSync(path.join(root, name)).size, 0);
    expect(Number(field('Installed-Size'))).to.be.within(bytes / 1024, bytes / 1024 + files.length);
  });

  it('has a changelog that dpkg understands, with all that CHANGELOG.md says', () => {
    const file = scratch.path('changelog');
    fs.writeFileSync(file, readZipped('usr/share/doc/qcow2fs/changelog.Debian.gz'));
    const parsed = fs.readFileSync(file, 'utf8');
    expect(parsed).to.match(new RegExp(`^qcow2fs \\(${VERSION}-1\\) \\w+; urgency=medium\n`));
    expect(parsed).to.match(/^ -- .* <.*@.*> {2}\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000$/m);
    const words = (text: string): string => text.replaceAll(/^ *[-*] /gm, '').replaceAll(/\s+/g, ' ');
    const ours = fs.readFileSync(path.join(ROOT, 'CHANGELOG.md'), 'utf8');
    expect(readZipped('usr/share/doc/qcow2fs/changelog.gz')).to.equal(ours);
    for (const item of ours.split(/^- /m).slice(1)) {
      expect(words(parsed)).to.contain(words(item.split('\n\n')[0]!).trim());
    }
    expect(parsed.split('\n').filter((line) => line.length > 80 && !line.startsWith(' -- '))).to.deep.equal(
      [],
    );
  });

  it('has scripts that a shell understands, and that enable no unit', () => {
    for (const name of ['postinst', 'prerm', 'postrm']) {
      const script = path.join(root, 'DEBIAN', name);
      run('sh', ['-n', script]);
      expect(fs.readFileSync(script, 'utf8')).to.not.match(/\b(enable|start|restart)\b/);
    }
    expect(fs.existsSync(path.join(root, 'DEBIAN/conffiles'))).to.equal(false);
  });
});

/** dpkg knows libraries by the names that they had before /lib became a link. */
function packageOf(file: string): string {
  const names = [file, file.replace(/^\/usr/, ''), `/usr${file}`];
  for (const name of names.flatMap((each) => [each, fs.realpathSync(file)])) {
    try {
      return run('dpkg', ['--search', name]).split(':')[0]!;
    } catch {
      // The other name, then.
    }
  }
  throw new Error(`no package has ${file}`);
}
