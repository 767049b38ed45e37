/** `qcow2fs list`. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { createImage, imagePath, MiB } from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { daemonOf, mountOn } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

describe('qcow2fs list', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const makeImage = (name = 'image.qcow2'): string =>
    imagePath(createImage(scratch.subdir(), { name, size: 3 * MiB }));
  const list = async (): Promise<Record<string, unknown>[]> =>
    JSON.parse(await expectInProcess(['list', '--json'])).mounts;
  const at = async (place: string): Promise<Record<string, unknown> | undefined> =>
    (await list()).find(({ mountpoint }) => mountpoint === place);

  it('--json gives every mount with exactly these fields', async () => {
    const image = makeImage();
    const { mountpoint, disk, log } = mountOn(defer, image, scratch.subdir(), ['--threads', '1']);
    expect(await at(mountpoint)).to.deep.equal({
      image,
      mountpoint,
      disk,
      size: 3 * MiB,
      readOnly: true,
      userId: 0,
      pid: daemonOf(mountpoint),
      state: 'mounted',
      transport: 'kernel',
      threads: 1,
      loop: null,
      log,
    });
  });

  it('no longer shows what was unmounted', async () => {
    const { mountpoint } = mountOn(defer, makeImage(), scratch.subdir());
    expect(await at(mountpoint)).to.be.an('object');
    expectQcow2fs(['umount', mountpoint]);
    expect(await at(mountpoint)).to.equal(undefined);
  });

  it('shows a line with disk, size, mode, process, state and image for people', () => {
    const image = makeImage();
    const { mountpoint, disk } = mountOn(defer, image, scratch.subdir());
    const text = expectQcow2fs(['list']);
    expect(text).to.match(/^DISK +SIZE +MODE +PID +STATE +IMAGE\n/);
    const line = text.split('\n').find((candidate) => candidate.startsWith(disk));
    expect(line?.split(/ {2,}/)).to.deep.equal([
      disk,
      '3 MiB',
      'ro',
      String(daemonOf(mountpoint)),
      'mounted',
      image,
    ]);
  });

  it('does not let names write on the terminal', async () => {
    const image = makeImage('evil\x1b[31m\nname.qcow2');
    const mountpoint = path.join(scratch.subdir(), 'm\x1b[2J\nnt');
    fs.mkdirSync(mountpoint);
    mountOn(defer, image, mountpoint);
    const text = await expectInProcess(['list']);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not reach a terminal
    expect(text).to.not.match(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
    expect(text).to.contain('evil\\u001b[31m\\u000aname.qcow2');
    expect(await at(mountpoint)).to.include({ image, mountpoint });
    expectQcow2fs(['umount', mountpoint]);
  });
});
