/** What the environment may not bring into the program: code, files and trust that are meant for other ones. */

import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { createImage, imagePath, MiB } from '../support/images.js';
import { BIN, expectQcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

// SECURITY.md: "The environment of another Node program does not reach this one"
describe('the environment', () => {
  const scratch = useScratch();

  /** As Node's own help lists them, and some that it does not list. */
  const variables = [
    ...new Set(execFileSync(process.execPath, ['--help'], { encoding: 'utf8' }).match(/\bNODE_[A-Z0-9_]+/g)),
    ...['NODE_OPTIONS', 'NODE_COMPILE_CACHE', 'NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'NODE_OF_TOMORROW'],
    ...['OPENSSL_CONF', 'OPENSSL_MODULES', 'OPENSSL_ENGINES'],
  ];

  for (const [how, args] of [
    ['a command', ['info', 'image']],
    ['a mount in the background', ['mount', 'image', '/mnt']],
    ['a mount in the foreground', ['mount', '-f', 'image', '/mnt']],
  ] as const) {
    it(`of ${how} has no variables of Node`, () => {
      expect(variables.length).to.be.above(15);
      const fake = scratch.subdir();
      const said = path.join(fake, 'said');
      fs.writeFileSync(path.join(fake, 'node'), `#!/bin/sh\nenv >'${said}'\necho 0 >&5\n`, { mode: 0o755 });
      const others = { KEPT: 'a\nNODE_x-y=*', NODE_: '', PATH: `${fake}:${process.env['PATH']}` };
      const env = { ...Object.fromEntries(variables.map((name) => [name, '--x "y z" *'])), ...others };
      spawnSync(BIN, args, { env });
      const names = fs
        .readFileSync(said, 'utf8')
        .split('\n')
        .map((line) => line.replace(/=.*/, ''));
      expect(names).to.include('KEPT');
      expect(names.filter((name) => /^(NODE|OPENSSL)_\w*$/.test(name))).to.deep.equal([]);
    });
  }

  it('does not make it run, read or write anything', () => {
    const dir = scratch.subdir();
    const image = imagePath(createImage(dir, { size: MiB }));
    const traces = path.join(dir, 'traces');
    fs.mkdirSync(traces);
    const module = path.join(dir, 'module.cjs');
    fs.writeFileSync(module, `require('fs').writeFileSync(${JSON.stringify(path.join(traces, 'ran'))}, '')`);
    const env = {
      ...process.env,
      NODE_OPTIONS: `--require ${module}`,
      NODE_V8_COVERAGE: path.join(traces, 'coverage'),
      NODE_REDIRECT_WARNINGS: path.join(traces, 'warnings'),
      NODE_COMPILE_CACHE: path.join(traces, 'cache'),
      NODE_EXTRA_CA_CERTS: path.join(dir, 'missing'),
    };
    expect(expectQcow2fs(['info', image], { env })).to.contain('qcow2 version 3');
    expect(fs.readdirSync(traces)).to.deep.equal([]);
  });
});
