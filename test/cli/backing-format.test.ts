/** Overlays that do not declare the format of their backing file: read as the user says, and never written so. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { openDisk } from '../../src/qcow2/chain.js';
import { EXTENSION, removeExtension } from '../support/damage.js';
import { sha256 } from '../support/files.js';
import {
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  imagePath,
  KiB,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { overlayWithFormat, SIZE } from '../support/naming.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const ADVICE =
  /read it as (?:qcow2|raw): (-r )?(--backing-format \w+), or declare it: (qemu-img rebase .*)\n$/;

describe('--backing-format', () => {
  const scratch = useScratch();

  /** Each with something of its own; the first is the bottom. */
  function chain(...files: readonly string[]): Image {
    const dir = scratch.subdir();
    let image: Image | undefined;
    for (const [level, name] of files.entries()) {
      if (name.endsWith('.raw')) createRaw(dir, name, SIZE, 4);
      else {
        const below = files[level - 1];
        const format = below?.endsWith('.raw') ? 'raw' : 'qcow2';
        image = createImage(dir, {
          name,
          size: SIZE,
          ...(below && { backing: { file: below, format } }),
        });
        writeSteps(image, level, [{ do: 'data', offset: level * 128 * KiB, length: 64 * KiB }]);
      }
    }
    return image!;
  }

  function undeclare({ dir }: Image, ...names: readonly string[]): void {
    for (const name of names) removeExtension(path.join(dir, name), EXTENSION.backingFormat);
  }

  const digest = async (...args: string[]): Promise<string> =>
    (await expectInProcess(['hash', ...args])).split(' ')[0]!;

  it('reads a chain of which no image declares a format, and leaves all files as they are', async () => {
    const image = chain('base.qcow2', 'middle.qcow2', 'image.qcow2');
    const expected = sha256(convertToRaw(image));
    undeclare(image, 'middle.qcow2', 'image.qcow2');
    const files = fs.readdirSync(image.dir).map((name) => path.join(image.dir, name));
    const state = () =>
      files.map((file) => [sha256(file), fs.statSync(file).mtimeMs, fs.statSync(file).ctimeMs]);
    const before = state();
    for (const command of ['hash', 'map', 'check']) {
      expect((await runInProcess([command, imagePath(image)])).status, command).to.equal(6);
    }
    const option = ['--backing-format', 'qcow2', imagePath(image)];
    expect(await digest(...option)).to.equal(expected);
    expect(JSON.parse(await expectInProcess(['map', '--json', ...option])).layers).to.have.length(3);
    expect(await expectInProcess(['check', '--chain', ...option])).to.contain('sound');
    const disk = await openDisk(imagePath(image), { backingFormat: 'qcow2' });
    disk.close();
    expect(state()).to.deep.equal(before);
  });

  it('raw shows the bytes of a file that looks like an image', async () => {
    const image = chain('base.qcow2', 'image.qcow2');
    undeclare(image, 'image.qcow2');
    run('qemu-img', ['rebase', '-u', '-F', 'raw', '-b', 'base.qcow2', imagePath(image)]);
    const expected = sha256(convertToRaw(image));
    undeclare(image, 'image.qcow2');
    expect(await digest('--backing-format', 'raw', imagePath(image))).to.equal(expected);
  });

  it('qcow2 leaves a file raw that looks like nothing, and says so in one line', async () => {
    const image = chain('base.raw', 'middle.qcow2', 'image.qcow2');
    const expected = sha256(convertToRaw(image));
    undeclare(image, 'middle.qcow2', 'image.qcow2');
    const { stdout, stderr } = await runInProcess(['hash', '--backing-format', 'qcow2', imagePath(image)]);
    expect(stdout.split(' ')[0]).to.equal(expected);
    expect(stderr).to.match(
      /^qcow2fs: \S+base\.raw: does not look like a disk image, so it is read as raw\n$/,
    );
  });

  it('is no reason to doubt a format that is declared', async () => {
    const image = chain('base.qcow2', 'image.qcow2');
    const expected = sha256(convertToRaw(image));
    expect(await digest('--backing-format', 'raw', imagePath(image))).to.equal(expected);
  });

  it('speaks of an empty format, too', async () => {
    const dir = scratch.subdir();
    createImage(dir, { name: 'base.qcow2', size: SIZE });
    const image = overlayWithFormat(dir, 'base.qcow2', '');
    expect((await runInProcess(['hash', image])).status).to.equal(6);
    expect(await digest('--backing-format', 'qcow2', image)).to.equal(await digest(`${dir}/base.qcow2`));
  });

  for (const [what, prepare] of [
    ['reading', (file: string) => ['hash', file]],
    ['writing', (file: string, dir: string) => ['mount', '--foreground', file, dir]],
  ] as const) {
    it(`is proposed for ${what} as it works, beside a command that works, too`, async () => {
      const image = chain('the base.qcow2', 'image.qcow2');
      const expected = sha256(convertToRaw(image));
      undeclare(image, 'image.qcow2');
      const { status, stderr } = await runInProcess(prepare(imagePath(image), scratch.subdir()));
      expect(status).to.equal(6);
      const [, reading, option, rebase] = ADVICE.exec(stderr)!;
      expect(reading).to.equal(what === 'writing' ? '-r ' : undefined);
      expect(await digest(...option!.split(' '), imagePath(image))).to.equal(expected);
      expect(spawnSync('sh', ['-c', rebase!]).status).to.equal(0);
      expect(await digest(imagePath(image))).to.equal(expected);
    });
  }

  it('is no format for an image that is written', async () => {
    const image = chain('base.qcow2', 'image.qcow2');
    undeclare(image, 'image.qcow2');
    const opened = openDisk(imagePath(image), { backingFormat: 'qcow2', writable: true });
    const error = await opened.then((disk) => disk.close()).catch((reason: Error) => reason);
    expect(error).to.have.property('message').that.contains('read it as qcow2: -r --backing-format qcow2');
  });

  it('takes an overlay that is written, above an image that is not', async () => {
    const image = chain('base.qcow2', 'image.qcow2');
    const expected = fs.readFileSync(convertToRaw(image));
    undeclare(image, 'image.qcow2');
    const before = sha256(imagePath(image));
    const overlay = path.join(image.dir, 'overlay.qcow2');
    const disk = await openDisk(imagePath(image), { backingFormat: 'qcow2', overlay, writable: true });
    disk.write(Buffer.from('changed'), 0, 7, 1000);
    disk.close();
    expected.write('changed', 1000);
    fs.writeFileSync(`${image.dir}/expected`, expected);
    expect(await digest('--backing-format', 'qcow2', overlay)).to.equal(sha256(`${image.dir}/expected`));
    expect(sha256(imagePath(image))).to.equal(before);
  });
});
