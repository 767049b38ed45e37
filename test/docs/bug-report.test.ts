/** What CONTRIBUTING.md asks for in a bug report tells where things are, and nothing that a guest wrote, or a key. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { withFile } from '../support/files.js';
import {
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  takeSnapshot,
  writeSecret,
} from '../support/images.js';
import { mountOn, mountWritableOn } from '../support/mounts.js';
import { expectQcow2fs, keyOptions, qcow2fs, ROOT } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

const CANARY = 'what the guest wrote';
const PASSPHRASE = 'open sesame';
const TRACE = { ...process.env, DEBUG: 'qcow2fs:*' };

// CONTRIBUTING.md: "none of these commands prints anything that a guest wrote, or a key."
describe('a bug report', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const [name, encrypted] of [
    ['a plain image', false],
    ['an encrypted image', true],
  ] as const) {
    it(`on ${name} gives away no data of the guest, and no key`, () => {
      const dir = scratch.subdir();
      const spec = encrypted
        ? {
            secret: writeSecret(scratch.dir, PASSPHRASE),
            encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
          }
        : {};
      const image = createImage(dir, { size: MiB, ...spec });
      const traces = [traced(image, fill)];
      takeSnapshot(image, 'before', '1');
      traces.push(traced(image, readAll));

      const info = expectQcow2fs(['info', '--json', imagePath(image)], { env: TRACE });
      const check = expectQcow2fs(['check', '--json', imagePath(image)], { env: TRACE });
      const checked = qcow2fs(['check', '--json', imagePath(image)], { env: TRACE }).stderr;
      // They tell something, and so what is looked for would be seen.
      expect(info).to.include('"before"');
      expect(check).to.include('"snapshots": 1');
      expect(checked).to.include('qcow2fs:');
      for (const trace of traces) expect(trace).to.match(/qcow2fs:fuse (READ|WRITE)/);

      for (const text of [info, check, checked, ...traces]) {
        expect(text).not.to.include(CANARY);
        expect(text).not.to.include(PASSPHRASE);
      }
    });
  }

  it('is asked for by commands that exist', () => {
    const page = fs.readFileSync(path.join(ROOT, 'CONTRIBUTING.md'), 'utf8');
    const commands = [...page.matchAll(/^ {4}.*?qcow2fs ([a-z]+) (--[a-z]+)/gm)];
    expect(commands.map(([, command]) => command)).to.include.members(['info', 'check']);
    for (const [, command, option] of commands) {
      expect(expectQcow2fs([command!, '--help'])).to.include(option!);
    }
  });

  function traced(image: Image, use: (disk: string) => void): string {
    const mount = use === fill ? mountWritableOn : mountOn;
    const { disk, log, mountpoint } = mount(defer, imagePath(image), scratch.subdir(), keyOptions(image), {
      env: TRACE,
    });
    use(disk);
    expectQcow2fs(['umount', mountpoint]);
    return fs.readFileSync(log, 'utf8');
  }
});

function fill(disk: string): void {
  const content = Buffer.alloc(256 * KiB, CANARY);
  withFile(disk, 'r+', (fd) => fs.writeSync(fd, content));
}

function readAll(disk: string): void {
  expect(fs.readFileSync(disk).includes(CANARY)).to.equal(true);
}
