/** `qcow2fs map --svg`: the report, and where it is written to. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { EXIT_STATUS } from '../../src/cli/exit-status.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { BIN } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { elementsOf } from '../support/xml.js';
import { mixedImage } from './mixed-image.js';

const UTF8 = { ...process.env, LC_ALL: 'C.UTF-8' };

describe('qcow2fs map --svg', () => {
  const scratch = useScratch();

  it('writes a report whose strips show what the picture shows, and the picture, too', async () => {
    const dir = scratch.subdir();
    const file = path.join(dir, 'map.svg');
    expect(
      await expectInProcess(['map', '--svg', file, imagePath(mixedImage(dir))], { env: UTF8 }),
    ).to.contain('█'.repeat(16));
    const elements = elementsOf(fs.readFileSync(file, 'utf8'));
    const strip = elements.filter(({ name, attributes }) => name === 'rect' && attributes['y'] === '84');
    const widths = strip.map(({ attributes }) => [attributes['x'], attributes['width']]);
    expect(widths).to.deep.equal([
      ['20', '240'],
      ['260', '240'],
      ['500', '240'],
      ['740', '240'],
    ]);
    expect(new Set(strip.map(({ attributes }) => attributes['fill'])).size).to.equal(4);
    const texts = elements.filter(({ name }) => name === 'text').map(({ text }) => text);
    for (const text of ['Map of image.qcow2', '4 MiB', 'data: 1 MiB (25%)', 'nothing stored: 1 MiB (25%)']) {
      expect(texts).to.include(text);
    }
  });

  it('gives the same bytes for the same disk, with every kind of output', async () => {
    const dir = scratch.subdir();
    const image = imagePath(mixedImage(dir));
    const reports = new Set<string>();
    for (const args of [[], ['--json'], ['--output=json']]) {
      const file = path.join(dir, `${args.join('')}.svg`);
      await expectInProcess(['map', ...args, '--svg', file, image]);
      reports.add(fs.readFileSync(file, 'utf8'));
    }
    expect(reports.size).to.equal(1);
  });

  it('replaces a file as a whole, keeps its mode and what a link is', async () => {
    const dir = scratch.subdir();
    const image = imagePath(mixedImage(dir));
    const file = path.join(dir, 'map.svg');
    fs.writeFileSync(file, 'x'.repeat(100_000), { mode: 0o640 });
    const reader = fs.openSync(file, 'r');
    fs.symlinkSync('map.svg', path.join(dir, 'link.svg'));
    await expectInProcess(['map', '--svg', path.join(dir, 'link.svg'), image]);
    // Who had the old one open has all of it.
    expect(fs.readFileSync(reader, 'utf8')).to.equal('x'.repeat(100_000));
    fs.closeSync(reader);
    expect(fs.readFileSync(file, 'utf8')).to.match(/^<\?xml.*<\/svg>\n$/s);
    expect(fs.statSync(file).mode & 0o777).to.equal(0o640);
    expect(fs.lstatSync(path.join(dir, 'link.svg')).isSymbolicLink()).to.equal(true);
    expect(fs.readdirSync(dir).sort()).to.deep.equal(['image.qcow2', 'link.svg', 'map.svg']);
  });

  it('writes to what is no regular file instead of replacing it, behind links, too', () => {
    const dir = scratch.subdir();
    const image = imagePath(mixedImage(dir));
    const pipe = path.join(dir, 'pipe');
    run('mkfifo', [pipe]);
    // As /dev/stdout is one.
    fs.symlinkSync('/proc/self/fd/1', path.join(dir, 'out'));
    const reading = 'timeout 20 cat pipe >read & "$0" map --output=json --svg pipe "$1" >/dev/null && wait';
    run('sh', ['-c', reading, BIN, image], { cwd: dir });
    expect(fs.readFileSync(path.join(dir, 'read'), 'utf8')).to.match(/^<\?xml.*<\/svg>\n$/s);
    expect(fs.lstatSync(pipe).isFIFO()).to.equal(true);
    const text = run('sh', ['-c', '"$0" map --output=json --svg out "$1" | cat', BIN, image], { cwd: dir });
    expect(text).to.match(/^\[\{.*\]\n<\?xml.*<\/svg>\n$/s);
    expect(fs.lstatSync(path.join(dir, 'out')).isSymbolicLink()).to.equal(true);
  });

  it('does not take the place of a link that leads nowhere', async () => {
    const dir = scratch.subdir();
    const image = imagePath(mixedImage(dir));
    fs.symlinkSync('missing', path.join(dir, 'link.svg'));
    const { status, stdout, stderr } = await runInProcess([
      'map',
      '--svg',
      path.join(dir, 'link.svg'),
      image,
    ]);
    expect(status).to.equal(EXIT_STATUS['host-io']);
    expect(stdout).to.equal('');
    expect(stderr).to.match(/^qcow2fs: [^\n]*link\.svg: cannot be written: the link leads nowhere\n$/);
    expect(fs.readdirSync(dir).sort()).to.deep.equal(['image.qcow2', 'link.svg']);
  });

  it('leaves nothing behind where it cannot be written', async () => {
    const dir = scratch.subdir();
    const image = imagePath(mixedImage(dir));
    const target = path.join(dir, 'map.svg');
    fs.mkdirSync(target);
    for (const file of [target, path.join(dir, 'missing', 'map.svg')]) {
      const { status, stderr } = await runInProcess(['map', '--svg', file, image]);
      expect(status).to.equal(EXIT_STATUS['host-io']);
      expect(stderr).to.match(/^qcow2fs: [^\n]*map\.svg: cannot be written: [^\n]+\n$/);
    }
    expect(fs.readdirSync(dir).sort()).to.deep.equal(['image.qcow2', 'map.svg']);
  });

  it('does not take the place of a file of the disk', async () => {
    const dir = scratch.subdir();
    mixedImage(dir, 'base.qcow2');
    const options = ['data_file=data.raw'];
    const image = imagePath(
      createImage(dir, { size: 4 * MiB, options, backing: { file: 'base.qcow2', format: 'qcow2' } }),
    );
    fs.symlinkSync('base.qcow2', path.join(dir, 'link.svg'));
    for (const name of ['image.qcow2', 'base.qcow2', 'data.raw', 'link.svg']) {
      const before = fs.readFileSync(path.join(dir, name));
      const { status, stderr } = await runInProcess(['map', '--svg', path.join(dir, name), image]);
      expect(status).to.equal(EXIT_STATUS.usage);
      expect(stderr).to.match(/^qcow2fs: --svg [^\n]*: that is a file of the disk itself\n$/);
      expect(fs.readFileSync(path.join(dir, name)).equals(before)).to.equal(true);
    }
  });
});
