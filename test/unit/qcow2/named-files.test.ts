import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { NamedFiles } from '../../../src/qcow2/named-files.js';
import { run } from '../../support/run.js';
import { useScratch } from '../../support/scratch.js';
import { expectError } from '../support/errors.js';

describe('a file that an image names', () => {
  const scratch = useScratch();
  const inside = scratch.subdir();
  const outside = scratch.subdir();
  const image = `${inside}/image.qcow2`;
  const files = new NamedFiles(inside, []);

  before(() => {
    fs.writeFileSync(image, '');
    fs.mkdirSync(`${inside}/sub`);
    fs.writeFileSync(`${inside}/sub/base.raw`, 'base');
    fs.writeFileSync(`${outside}/secret`, 'secret');
    fs.mkdirSync(`${inside}-twin`);
    fs.writeFileSync(`${inside}-twin/x`, '');
    fs.symlinkSync('sub/base.raw', `${inside}/link`);
    fs.symlinkSync(`${outside}/secret`, `${inside}/escape`);
    fs.symlinkSync(outside, `${inside}/way`);
    run('mkfifo', [`${inside}/fifo`]);
  });

  function opened(name: string, from = files): string {
    const file = from.open(name, 'backing file', image);
    try {
      return fs.readFileSync(file.fd, 'utf8');
    } finally {
      fs.closeSync(file.fd);
    }
  }

  it('is opened below the directory of the image, by any name', () => {
    for (const name of ['sub/base.raw', './sub/../sub/base.raw', `${inside}/sub/base.raw`, 'link']) {
      expect(opened(name)).to.equal('base');
    }
  });

  it('is relative to the file that names it, and keeps the name it was opened by', () => {
    const file = files.open('base.raw', 'backing file', `${inside}/sub/middle.qcow2`);
    fs.closeSync(file.fd);
    expect(file.path).to.equal(`${inside}/sub/base.raw`);
  });

  it('is refused outside, with its path and the way out', () => {
    const names = [`${outside}/secret`, '../1/secret', 'escape', 'way/secret'];
    for (const name of names) {
      const expected = [image, 'backing file', `${outside}/secret`, `--allow-dir ${outside}`];
      expectError('named-file', expected, () => opened(name));
    }
    expectError('named-file', [`--allow-dir ${inside}-twin`], () => opened('../0-twin/x'));
  });

  it('is opened when it is the one file that is allowed, and none beside it', () => {
    const one = new NamedFiles(inside, [`${inside}/escape`]);
    for (const name of [`${outside}/secret`, 'escape', 'way/secret'])
      expect(opened(name, one)).to.equal('secret');
    fs.writeFileSync(`${outside}/secret2`, '');
    for (const name of ['secret2', 'secret/x'])
      expectError('named-file', ['secret'], () => opened(`${outside}/${name}`, one));
  });

  it('is refused when it is an open descriptor or a device', () => {
    const fd = fs.openSync(`${outside}/secret`, 'r');
    try {
      for (const name of [`/proc/self/fd/${fd}`, `/dev/fd/${fd}`]) {
        expectError('named-file', [`${name} lies outside`], () => opened(name));
      }
    } finally {
      fs.closeSync(fd);
    }
    expectError('named-file', ['/dev/zero', '--allow-dir /dev'], () => opened('/dev/zero'));
    const devices = new NamedFiles(inside, ['/dev']);
    expectError('named-file', ['/dev/zero', 'regular file'], () => opened('/dev/zero', devices));
  });

  it('is refused without blocking when it is a FIFO', () => {
    expectError('named-file', [`${inside}/fifo`, 'FIFO'], () => opened('fifo'));
  });

  it('is refused when it is a directory or missing', () => {
    expectError('named-file', [`${inside}/sub`, 'directory'], () => opened('sub'));
    expectError('named-file', [`${inside}/missing`, 'ENOENT'], () => opened('missing'));
  });

  it('is refused by the name that the image has for it, whatever that is made of', () => {
    const name = "busy $& $' file";
    fs.copyFileSync('/bin/sleep', `${inside}/${name}`);
    fs.chmodSync(`${inside}/${name}`, 0o755);
    // The kernel lets nobody write a program that runs.
    const child = spawn(`${inside}/${name}`, ['60']);
    try {
      expectError('named-file', [`${inside}/${name}: cannot open for writing: ETXTBSY`], () => {
        files.open(name, 'data file', image, 'read-write');
      });
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('is what the host says that .. behind a link is', () => {
    fs.mkdirSync(`${inside}/deep/er`, { recursive: true });
    fs.writeFileSync(`${inside}/deep/base.raw`, 'deep');
    fs.symlinkSync('deep/er', `${inside}/short`);
    fs.writeFileSync(`${inside}/base.raw`, 'flat');
    expect(opened('short/../base.raw')).to.equal('deep');
  });

  it('is not what .. would be without the links of the directory that the user gave', () => {
    const place = scratch.subdir();
    for (const dir of ['real/deep/vm', 'other', 'real/other'])
      fs.mkdirSync(`${place}/${dir}`, { recursive: true });
    fs.symlinkSync('real/deep', `${place}/link`);
    for (const dir of ['other', 'real/other']) fs.writeFileSync(`${place}/${dir}/base`, dir);
    const named = new NamedFiles(`${place}/link/vm`, [`${place}/other`]);
    expectError('named-file', ['lies outside'], () => opened(`${place}/link/../other/base`, named));
    expect(opened(`${place}/link/vm/../../../other/base`, named)).to.equal('other');
  });

  it('is opened below a directory that the user allowed', () => {
    const allowing = new NamedFiles(inside, [`${inside}/way`]);
    expect(opened('escape', allowing)).to.equal('secret');
    expect(opened(`${outside}/secret`, allowing)).to.equal('secret');
    expectError('named-file', [`${inside}-twin`], () => opened(`${inside}-twin/x`, allowing));
  });

  it('leaves no descriptor open when it is refused', () => {
    const count = () => fs.readdirSync('/proc/self/fd').length;
    const before = count();
    for (const name of ['escape', 'fifo', 'sub', 'missing'])
      expectError('named-file', [], () => opened(name));
    expect(count()).to.equal(before);
  });
});

describe('an image without a directory of its own', () => {
  it('on a block device, or in /, may name only what the user allows', () => {
    for (const own of [undefined, '/']) {
      const named = new NamedFiles(own, []);
      expectError('named-file', ['/etc/hostname', '--allow-dir /etc'], () => {
        named.open('/etc/hostname', 'backing file', '/dev/image');
      });
      const file = new NamedFiles(own, ['/etc']).open('/etc/hostname', 'backing file', '/dev/image');
      fs.closeSync(file.fd);
    }
  });
});

describe('an allowed directory', () => {
  it('that does not exist is refused', () => {
    expectError('usage', ['--allow-dir /nonexistent'], () => new NamedFiles('/tmp', ['/nonexistent']));
  });
});
