/**
 * What an image may name: what lies in its directory counts, whichever way it came there, and what does not lie there
 * counts only below a directory that the user allowed. How names lead out is tried in test/cli/escapes.test.ts.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { makePlace } from '../support/escapes.js';
import { sha256 } from '../support/files.js';
import { createRaw } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import { LET_GO } from '../support/mount-namespace.js';
import { daemonOf, mountOn, tryMount } from '../support/mounts.js';
import { overlay, SIZE } from '../support/naming.js';
import { expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { expectRefused } from '../support/refusals.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

// SECURITY.md: "It reaches no file outside its directory, unless you allow one with `--allow-dir`"
describe('a file that an image names', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  /** The disk of an image shows the bytes of `raw`. */
  function expectShown(image: string, raw: string, args: readonly string[] = []): void {
    const { disk, mountpoint } = mountOn(defer, image, scratch.subdir(), args);
    expect(sha256(disk)).to.equal(sha256(raw));
    expectQcow2fs(['umount', mountpoint]);
  }

  function expectNotShown(image: string, words: readonly string[], args: readonly string[] = []): void {
    expectRefused(tryMount(defer, ['-r', ...args, image], scratch.subdir()), 'named-file', words);
  }

  it('may lie beside the one that names it, above it, as long as that is below the image', () => {
    const dir = scratch.subdir();
    const raw = createRaw(dir, 'other.raw', SIZE, 1);
    overlay(dir, '../other.raw', 'raw', 'sub/base.qcow2');
    expectShown(overlay(dir, 'sub/base.qcow2'), raw);
  });

  it('is inside when it has a second name there (a hard link): who made that could have copied it', () => {
    const dir = scratch.subdir();
    const { secret } = makePlace(dir);
    fs.linkSync(secret, path.join(dir, 'hard.raw'));
    expectShown(overlay(dir, 'hard.raw', 'raw'), secret);
  });

  it('is inside when it is mounted there (mount --bind): root has put it there', () => {
    const dir = scratch.subdir();
    const { out, secret } = makePlace(dir);
    for (const [source, name] of [
      [out, 'directory'],
      [secret, 'file.raw'],
    ] as const) {
      const target = path.join(dir, name);
      if (source === out) fs.mkdirSync(target);
      else fs.writeFileSync(target, '');
      tool('mount', '--bind', source, target);
      defer(() => tool('umount', '-l', target));
      expectShown(overlay(dir, source === out ? 'directory/secret.raw' : name, 'raw'), secret);
    }
  });

  it('is looked for beside the name of the image on the command line, which may be a link', () => {
    const [dir, real] = [scratch.subdir(), scratch.subdir()];
    const raw = createRaw(dir, 'base.raw', SIZE, 1);
    fs.symlinkSync(overlay(real, 'base.raw', 'raw'), path.join(dir, 'link.qcow2'));
    expectShown(path.join(dir, 'link.qcow2'), raw);
    // Through its directory it is another image with other neighbours.
    expectNotShown(path.join(real, 'image.qcow2'), ['base.raw', 'no such file']);
  });

  it('is inside when a link leads to the directory of the image', () => {
    const dir = scratch.subdir();
    const raw = createRaw(dir, 'base.raw', SIZE, 1);
    const image = overlay(dir, path.join(dir, 'base.raw'), 'raw');
    const link = path.join(scratch.subdir(), 'link');
    fs.symlinkSync(dir, link);
    expectShown(path.join(link, path.basename(image)), raw);
  });

  it('is outside, wherever it is, when the image lies in /', () => {
    const raw = createRaw(scratch.subdir(), 'base.raw', SIZE, 1);
    const image = `/qcow2fs-test-${process.pid}.qcow2`;
    defer(() => fs.rmSync(image, { force: true }));
    fs.copyFileSync(overlay(scratch.subdir(), raw, 'raw'), image);
    expectNotShown(image, [raw, 'outside every allowed directory', `--allow-dir ${path.dirname(raw)}`]);
    expectShown(image, raw, ['--allow-dir', path.dirname(raw)]);
  });

  it('is outside, wherever it is, when the image is a block device', () => {
    const raw = createRaw(scratch.subdir(), 'base.raw', SIZE, 1);
    const file = overlay(scratch.subdir(), raw, 'raw');
    // A device has whole sectors.
    fs.truncateSync(file, SIZE);
    const image = attachLoop(defer, file, '--read-only');
    expectNotShown(image, [raw, 'outside every allowed directory', `--allow-dir ${path.dirname(raw)}`]);
    expectShown(image, raw, ['--allow-dir', path.dirname(raw)]);
  });

  it('can be a block device that is allowed, or lies in a directory that is', () => {
    const raw = createRaw(scratch.subdir(), 'base.raw', SIZE, 1);
    const loop = attachLoop(defer, raw, '--read-only');
    const image = overlay(scratch.subdir(), loop, 'raw');
    expectNotShown(image, [loop, `add --allow-dir ${loop}`]);
    for (const allowed of ['/dev', loop]) expectShown(image, raw, ['--allow-dir', allowed]);
  });

  it('cannot be a block device in the directory of the image: what it holds lies elsewhere', () => {
    const dir = scratch.subdir();
    const loop = attachLoop(defer, makePlace(dir).secret, '--read-only');
    const [major, minor] = tool('stat', '-c', '%Hr %Lr', loop).trim().split(' ');
    tool('mknod', path.join(dir, 'disk'), 'b', major!, minor!);
    const image = overlay(dir, 'disk', 'raw');
    expectNotShown(image, [`${dir}/disk is a block device`, `add --allow-dir ${dir}/disk`]);
    expectShown(image, loop, ['--allow-dir', dir]);
  });

  it('is not looked at when it lies outside: a file system that hangs there holds nobody up', () => {
    const dir = scratch.subdir();
    const other = scratch.subdir();
    createRaw(other, 'base.raw', SIZE, 1);
    const { mountpoint } = mountOn(defer, overlay(other, 'base.raw', 'raw'), scratch.subdir());
    const daemon = daemonOf(mountpoint);
    const missing = path.join(mountpoint, 'missing');
    fs.symlinkSync(missing, path.join(dir, 'link'));
    fs.symlinkSync(path.relative(dir, mountpoint), path.join(dir, 'way'));
    process.kill(daemon, 'SIGSTOP');
    try {
      for (const name of [
        missing,
        path.relative(dir, missing),
        'link',
        'way/missing',
        `${mountpoint}/../x`,
      ]) {
        const args = ['map', overlay(dir, name, 'raw')];
        expectRefused(qcow2fs(args), 'named-file', ['lies outside']);
      }
    } finally {
      process.kill(daemon, 'SIGCONT');
    }
  });

  it('is found by the path of the directory that the shell shows', () => {
    const dir = scratch.subdir();
    const link = path.join(scratch.subdir(), 'link');
    fs.symlinkSync(dir, link);
    createRaw(dir, 'base.raw', SIZE, 1);
    const image = path.basename(overlay(dir, path.join(link, 'base.raw'), 'raw'));
    expectQcow2fs(['map', image], { cwd: dir, env: { ...process.env, PWD: link } });
    expectQcow2fs(['map', path.join(link, image)], { env: { ...process.env, PWD: '/' } });
  });

  it('is outside when it has the right path, but in the file systems of another process', async () => {
    const dir = scratch.subdir();
    const hidden = path.join(dir, 'sub');
    fs.mkdirSync(hidden);
    const secret = makePlace(dir).secret;
    const script = `${LET_GO}
      mount -t tmpfs none "$1" && cp "$2" "$1/secret.raw" && echo ready && exec cat`;
    const other = spawn('unshare', ['-m', 'sh', '-c', script, 'sh', hidden, secret]);
    defer(() => other.kill('SIGKILL'));
    expect(String((await once(other.stdout, 'data'))[0])).to.equal('ready\n');
    // The kernel calls that file DIR/sub/secret.raw, too.
    const name = `/proc/${other.pid}/root${hidden}/secret.raw`;
    expectNotShown(overlay(dir, name, 'raw'), [name, 'lies outside']);
    expectNotShown(overlay(dir, name, 'raw'), [name, 'another process'], ['--allow-dir', '/']);
  });
});
