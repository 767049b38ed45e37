/** What an image names is read: files elsewhere that are allowed, long chains, raw files of no declared format. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { sha256 } from '../support/files.js';
import { createRaw } from '../support/images.js';
import { mountOn } from '../support/mounts.js';
import { longChain, outside, overlay, SIZE } from '../support/naming.js';
import { useScratch } from '../support/scratch.js';

describe('qcow2fs mount and named files', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  function chainTo(name: (other: string, dir: string) => string): {
    image: string;
    other: string;
    raw: string;
  } {
    const dir = scratch.subdir();
    const other = outside(dir);
    const raw = createRaw(other, 'base.raw', SIZE, 4);
    return { image: overlay(dir, name(other, dir), 'raw'), other, raw };
  }

  for (const [how, name] of [
    ['absolute path', (other: string) => path.join(other, 'base.raw')],
    ['..', (other: string) => `../${path.basename(other)}/base.raw`],
    [
      'symbolic link',
      (other: string, dir: string) => {
        fs.symlinkSync(path.join(other, 'base.raw'), path.join(dir, 'link'));
        return 'link';
      },
    ],
  ] as const) {
    it(`accepts a file elsewhere by ${how} with --allow-dir`, () => {
      const { image, other, raw } = chainTo(name);
      const { disk } = mountOn(defer, image, scratch.subdir(), ['--allow-dir', other]);
      expect(sha256(disk)).to.equal(sha256(raw));
    });
  }

  it('accepts a file elsewhere with --allow-dir through a symbolic link to the directory', () => {
    const { image, other, raw } = chainTo((dir) => path.join(dir, 'base.raw'));
    const link = path.join(scratch.subdir(), 'link');
    fs.symlinkSync(other, link);
    const args = ['--allow-dir', '/var/empty-or-not/..', '--allow-dir', link].slice(2);
    const { disk } = mountOn(defer, image, scratch.subdir(), args);
    expect(sha256(disk)).to.equal(sha256(raw));
  });

  it('takes a backing file of an undeclared format as raw when it looks like nothing else', () => {
    const dir = scratch.subdir();
    const raw = createRaw(dir, 'base.raw', SIZE, 4);
    const { disk } = mountOn(defer, overlay(dir, 'base.raw', null), scratch.subdir());
    expect(sha256(disk)).to.equal(sha256(raw));
  });

  it('reads a chain of 256 files', () => {
    const dir = scratch.subdir();
    const { disk } = mountOn(defer, longChain(dir, 256), scratch.subdir());
    expect(fs.readFileSync(disk).equals(Buffer.alloc(SIZE))).to.equal(true);
  });
});
