/** Names that come from anywhere, and a working directory that is gone. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { createImage, imagePath, MiB } from '../support/images.js';
import { runInProcess } from '../support/in-process.js';
import { BIN, type Outcome, qcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

describe('a command line with control characters', () => {
  it('does not write them on the terminal', async () => {
    const evil = '\u001b[31mX\u007f\u009b\u202e';
    const outcomes = [qcow2fs([evil])];
    for (const args of [
      [evil],
      ['help', evil],
      ['map', `--${evil}`, 'a'],
      ['check', '--repair', evil, 'a'],
      [`-${evil}`],
    ]) {
      outcomes.push(await runInProcess(args));
    }
    for (const { status, stdout, stderr } of outcomes) {
      expect(status).to.equal(2);
      expect(stdout).to.equal('');
      expect(stderr)
        .to.match(/^qcow2fs: [^\p{Cc}\p{Cf}]*\n$/u)
        .and.contain('\\u001b');
    }
  });
});

describe('an image whose name has control characters', () => {
  const scratch = useScratch();
  const evil = 'a\u001b[31m\n\u007f\u009b\u202e\u2028';
  const lines = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$/u;

  it('is told by its name in JSON, with none of them written', async () => {
    const made = createImage(scratch.subdir(), { size: MiB });
    const image = path.join(made.dir, evil);
    fs.renameSync(imagePath(made), image);
    for (const command of ['info', 'check', 'map', 'hash']) {
      const { status, stdout } = await runInProcess([command, '--json', image]);
      expect(status, command).to.equal(0);
      for (const line of stdout.split('\n')) expect(line, command).to.match(lines);
      expect(stdout, command).to.contain('\\u202e');
      expect(JSON.stringify(JSON.parse(stdout)), command).to.contain(JSON.stringify(image));
    }
  });

  it('is told in one line by warnings', async () => {
    const { image, secret } = {
      image: path.join(scratch.subdir(), evil),
      secret: path.join(scratch.dir, evil),
    };
    fs.writeFileSync(image, '');
    fs.writeFileSync(secret, 'key', { mode: 0o644 });
    const { stderr } = await runInProcess(['hash', '--secret-file', secret, image]);
    expect(stderr).to.match(/^qcow2fs: warning: every user [^\n]*\n[^\n]*\n$/);
    for (const line of stderr.split('\n')) expect(line).to.match(lines);
  });
});

describe('a name that is not UTF-8', () => {
  const scratch = useScratch();

  it('leads to its own file, and to no other one', async () => {
    const dir = scratch.subdir();
    const image = imagePath(createImage(dir, { size: MiB }));
    fs.copyFileSync(image, Buffer.concat([Buffer.from(`${dir}/odd`), Buffer.from([0xff, 0xfe])]));
    // What Node.js makes of it.
    fs.writeFileSync(`${dir}/odd\u{fffd}\u{fffd}`, 'another file');
    // No argument of spawn can be bytes.
    const script = `for command in info map hash check; do "$0" $command "$(printf '%s/odd\\377\\376' "$1")"; done`;
    const { status, stdout, stderr } = spawnSync('sh', ['-ec', script, BIN, dir], { encoding: 'utf8' });
    expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
    expect(stdout).to.contain('odd\\xff\\xfe: ').and.not.contain('\u{fffd}');
    for (const command of ['info', 'map', 'hash', 'check']) {
      expect((await runInProcess([command, `${dir}/odd\udcff\udcfe`])).status, command).to.equal(0);
    }
    const missing = await runInProcess(['info', `${dir}/odd\udcfe`]);
    expect(missing.stderr).to.match(/^qcow2fs: [^\n]*\/odd\\xfe: cannot open: ENOENT[^\n]*\n$/);
  });
});

describe('an image that the caller has open', () => {
  const scratch = useScratch();
  const dir = scratch.subdir();

  before(() => {
    createImage(dir, { name: 'base.qcow2', size: MiB });
    createImage(dir, { name: 'top.qcow2', backing: { file: 'base.qcow2', format: 'qcow2' } });
  });

  async function withOpen(file: string, action: (path: string) => Promise<void>): Promise<void> {
    const fd = fs.openSync(file, 'r+');
    try {
      await action(`/dev/fd/${fd}`);
      await action(`/proc/self/fd/${fd}`);
    } finally {
      fs.closeSync(fd);
    }
  }

  it('is named by its own path, and so are the files that it names', async () => {
    const top = path.join(dir, 'top.qcow2');
    await withOpen(top, async (by) => {
      for (const command of ['info', 'map', 'check']) {
        const { status, stdout, stderr } = await runInProcess([command, by]);
        expect([status, stderr], command).to.deep.equal([0, '']);
        expect(stdout).to.not.contain('/fd/');
      }
      expect((await runInProcess(['hash', by])).stdout).to.equal((await runInProcess(['hash', top])).stdout);
    });
  });

  it('is read when it has no name any more', async () => {
    const gone = path.join(dir, 'gone.qcow2');
    fs.copyFileSync(path.join(dir, 'base.qcow2'), gone);
    const fd = fs.openSync(gone, 'r');
    fs.unlinkSync(gone);
    const { status, stdout } = await runInProcess(['hash', `/dev/fd/${fd}`]);
    fs.closeSync(fd);
    expect(status).to.equal(0);
    expect(stdout).to.match(/^[0-9a-f]{64} /);
  });
});

describe('a working directory that is gone', () => {
  const scratch = useScratch();

  /** Threads start in it, too. */
  function inLostDirectory(...args: readonly string[]): Outcome {
    const lost = fs.mkdtempSync(path.join(scratch.dir, 'lost-'));
    const script = 'cd "$1" && rmdir "$1" && shift && exec "$@"';
    const { status, stdout, stderr } = spawnSync('sh', ['-c', script, 'sh', lost, BIN, ...args], {
      encoding: 'utf8',
    });
    // The shell that the program starts in has something to say, too.
    return { status, stdout, stderr: stderr.replace(/^[^\n]*getcwd[^\n]*\n/gm, '') };
  }

  async function inLostDirectoryOfTest(...args: readonly string[]): Promise<Outcome> {
    const home = process.cwd();
    const lost = fs.mkdtempSync(path.join(scratch.dir, 'lost-'));
    try {
      process.chdir(lost);
      fs.rmdirSync(lost);
      return await runInProcess(args);
    } finally {
      process.chdir(home);
    }
  }

  it('is none that is needed for an image with a whole path', async () => {
    const image = imagePath(createImage(scratch.subdir(), { size: MiB }));
    expect(inLostDirectory('hash', image)).to.include({ status: 0, stderr: '' });
    for (const command of ['info', 'map', 'hash', 'check']) {
      const { status, stderr } = await inLostDirectoryOfTest(command, image);
      expect([status, stderr], command).to.deep.equal([0, '']);
    }
  });

  it('is told to whoever names an image in it', async () => {
    const outcomes = [inLostDirectory('info', 'image.qcow2')];
    for (const command of ['info', 'map', 'hash', 'check']) {
      outcomes.push(await inLostDirectoryOfTest(command, 'image.qcow2'));
    }
    for (const { status, stderr } of outcomes) {
      expect(status, stderr).to.equal(3);
      expect(stderr).to.match(/^qcow2fs: image\.qcow2: [^\n]*working directory is gone[^\n]*\n$/);
    }
  });
});
