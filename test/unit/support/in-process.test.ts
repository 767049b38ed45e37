/** Commands in the process of a test tell what they tell in a process of their own, and leave nothing of theirs. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { foreign } from '../../../src/host/libc.js';
import { notice } from '../../../src/notice.js';
import {
  createImage,
  type Image,
  imagePath,
  MiB,
  qemuIo,
  writeSecret,
  writeSteps,
} from '../../support/images.js';
import { expectInProcess, runInProcess } from '../../support/in-process.js';
import { openFilesOf } from '../../support/processes.js';
import { qcow2fs } from '../../support/qcow2fs.js';
import { useScratch } from '../../support/scratch.js';

const PR_GET_DUMPABLE = 3;

/** All of the process that commands have to do with. */
function stateOfProcess(): unknown {
  const prctl = foreign(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  );
  return {
    directory: process.cwd(),
    environment: { ...process.env },
    dumpable: prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
    listeners: process.eventNames().map((name) => [name, process.listenerCount(name as string)]),
    streams: [process.stdout, process.stderr, process.exit, process.execPath, fs.writeSync],
    files: [...openFilesOf(process.pid).values()].filter((file) => file.includes('qcow2fs-test-')),
  };
}

describe('a command in the process of a test', () => {
  const scratch = useScratch();
  let image: Image;

  before(() => {
    image = createImage(scratch.subdir(), { size: MiB });
    writeSteps(image, 1, [{ do: 'data', offset: 0, length: MiB / 2 }]);
  });

  for (const args of [
    ['--version'],
    ['help', 'mount'],
    ['mont'],
    ['info', 'IMAGE'],
    ['check', 'IMAGE'],
    ['map', '--json', 'IMAGE'],
    ['hash', '--piecewise', '64K', 'IMAGE'],
    ['hash', '--secret-file', 'KEY', 'IMAGE'],
    ['umount', '/nowhere'],
  ]) {
    it(`says and leaves what a process of its own does: ${args.join(' ')}`, async () => {
      const key = writeSecret(scratch.subdir(), 'open sesame').file;
      const filled = args.map((word) => ({ IMAGE: imagePath(image), KEY: key })[word] ?? word);
      const before = stateOfProcess();
      expect(await runInProcess(filled)).to.deep.equal(qcow2fs(filled));
      expect(stateOfProcess()).to.deep.equal(before);
    });
  }

  it('has a directory and an environment of its own', async () => {
    const name = path.basename(imagePath(image));
    const before = stateOfProcess();
    const env = { LC_ALL: 'C' };
    const [ours, whole] = [
      await expectInProcess(['map', name], { cwd: image.dir, env }),
      await expectInProcess(['map', imagePath(image)], { env: { LC_ALL: 'C.UTF-8' } }),
    ];
    expect(ours).to.contain('#'.repeat(8)).and.not.contain('█');
    expect(whole).to.contain('█'.repeat(8));
    expect(stateOfProcess()).to.deep.equal(before);
  });

  it('gives back its locks, after a failure, too', async () => {
    expect((await runInProcess(['hash', '--verify', '/dev/null', imagePath(image)])).status).to.equal(2);
    await expectInProcess(['hash', imagePath(image)]);
    qemuIo(image, ['write 0 512']);
  });

  it('waits for one that was called before it', async () => {
    const outcomes = await Promise.all(
      ['info', 'check', 'map'].map((command) => runInProcess([command, imagePath(image)])),
    );
    for (const [index, command] of ['info', 'check', 'map'].entries()) {
      expect(outcomes[index]).to.deep.equal(await runInProcess([command, imagePath(image)]));
    }
  });

  it('starts no daemon', async () => {
    const { status, stderr } = await runInProcess(['mount', imagePath(image), scratch.subdir()]);
    expect(status).to.equal(1);
    expect(stderr).to.contain('no daemon is started by a command in the process of a test');
  });

  it('has no listener for notices when it has ended', async () => {
    await expectInProcess(['info', imagePath(image)]);
    const said: unknown[] = [];
    const { write } = process.stderr;
    process.stderr.write = (text: unknown) => said.push(text) > 0;
    try {
      notice('nobody is told');
    } finally {
      process.stderr.write = write;
    }
    expect(said).to.deep.equal([]);
  });
});
