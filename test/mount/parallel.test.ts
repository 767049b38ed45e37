/** Many readers at once, through one daemon with one, two and eight threads. */

import { spawn } from 'node:child_process';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { compressedGuest, richGuest } from '../support/guests.js';
import {
  convertToRaw,
  createImage,
  imagePath,
  KiB,
  MiB,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { daemonOf, isRunning, mountOn } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { useScratch } from '../support/scratch.js';

const SIZE = 24 * MiB;
/** Each reader with a block size of its own; half of them past the page cache, so that every read is a request. */
const READERS = ['4k', '12k', '64k', '100k', '256k', '512k', '1M', '3M'];

describe('8 parallel readers', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const dir = scratch.subdir();
  const key = writeSecret(dir, 'open sesame');
  let image: string;
  let expected: string;

  before(() => {
    const base = createImage(dir, { name: 'base.qcow2', size: SIZE, clusterSize: 4 * KiB });
    writeSteps(base, 1, [{ do: 'compressed', offset: 0, length: SIZE / 2 }]);
    writeSteps(base, 2, [{ do: 'data', offset: SIZE / 2, length: SIZE / 2 }]);
    const backing = { file: 'base.qcow2', format: 'qcow2' } as const;
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const top = createImage(dir, { size: SIZE, clusterSize: 4 * KiB, backing, secret: key, encryption });
    writeSteps(top, 3, richGuest(SIZE, 512 * KiB));
    writeSteps(
      top,
      4,
      compressedGuest(SIZE / 4, 64 * KiB).map((step) => ({ ...step, offset: step.offset + 16 * MiB })),
    );
    image = imagePath(top);
    expected = convertToRaw(top);
  });

  /** Compares the whole disk with what is expected; resolves to what cmp found different. */
  function reader(disk: string, blockSize: string, direct: boolean): Promise<string> {
    const script = 'dd "if=$1" "bs=$2" $4 status=none | cmp - "$3"';
    const flags = direct ? 'iflag=direct' : '';
    const child = spawn('sh', ['-c', `${script} 2>&1`, 'sh', disk, blockSize, expected, flags]);
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => resolve(status === 0 ? output : `status ${status}: ${output}`));
    });
  }

  for (const [transport, threads] of [
    ['kernel', 1],
    ['kernel', 2],
    ['kernel', 8],
    ['libfuse', 1],
  ] as const) {
    it(`get the right bytes from ${threads} thread${threads > 1 ? 's' : ''} of the ${transport} transport`, async () => {
      const args = ['--secret-file', key.file, '--transport', transport, '--threads', String(threads)];
      const { mountpoint, disk } = mountOn(defer, image, scratch.subdir(), args);
      const found = await Promise.all(READERS.map((size, index) => reader(disk, size, index % 2 === 0)));
      expect(found).to.deep.equal(READERS.map(() => ''));
      const daemon = daemonOf(mountpoint);
      expectQcow2fs(['umount', mountpoint]);
      expect(isRunning(daemon)).to.equal(false);
    });
  }

  it('get the right bytes from two mounts of the same image', async () => {
    const mounts = [1, 2].map(() => mountOn(defer, image, scratch.subdir(), ['--secret-file', key.file]));
    const readers = mounts.flatMap(({ mountpoint }) =>
      READERS.slice(4).map((size, index) => reader(path.join(mountpoint, 'disk.raw'), size, index % 2 === 0)),
    );
    expect(await Promise.all(readers)).to.deep.equal(readers.map(() => ''));
  });
});
