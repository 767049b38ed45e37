/** The package as users get it: packed, and installed somewhere else without running any install script. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ROOT } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { linksOf } from './links.js';

// README.md: "for npm install -g, and the sources"
describe('the npm package', function () {
  this.timeout(600_000);
  const scratch = useScratch();
  const home = scratch.subdir();
  const mountpoint = scratch.subdir();
  const bin = path.join(home, 'node_modules', '.bin', 'qcow2fs');
  const example = path.join(ROOT, 'contrib', 'example');

  before(() => {
    run('npm', ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', home], { cwd: ROOT });
    const tarball = fs.readdirSync(home).find((name) => name.endsWith('.tgz'))!;
    fs.writeFileSync(path.join(home, 'package.json'), '{}');
    const quiet = ['--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline'];
    run('npm', ['install', '--ignore-scripts', ...quiet, `./${tarball}`], { cwd: home });
  });

  it('has everything that README.md and the pages for users link to', () => {
    const installed = path.join(home, 'node_modules', 'qcow2fs');
    const pages = fs.readdirSync(path.join(installed, 'contrib/docs')).map((name) => `contrib/docs/${name}`);
    const missing = ['README.md', ...pages.filter((name) => name.endsWith('.md'))].flatMap((page) =>
      linksOf(fs.readFileSync(path.join(installed, page), 'utf8'))
        .map(({ file }) => path.join(path.dirname(page), file))
        .filter((name) => !fs.existsSync(path.join(installed, name))),
    );
    expect(pages).to.include('contrib/docs/guide.md');
    expect(missing).to.deep.equal([]);
  });

  for (const transport of ['kernel', 'libfuse']) {
    it(`mounts by the ${transport} transport`, () => {
      const log = scratch.path('log');
      const secret = ['--secret-file', path.join(example, 'secret')];
      const image = path.join(example, 'example.qcow2');
      run(bin, ['mount', '-r', '--log', log, '--transport', transport, ...secret, image, mountpoint]);
      try {
        const magic = Buffer.alloc(8);
        const fd = fs.openSync(path.join(mountpoint, 'disk.raw'), 'r');
        fs.readSync(fd, magic, 0, 8, 512);
        fs.closeSync(fd);
        expect(magic.toString()).to.equal('EFI PART');
      } finally {
        run(bin, ['umount', mountpoint]);
      }
    });
  }
});
