/** Random writes of several jobs at once, every block checked by its checksum, also after a remount. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { sha256 } from '../support/files.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  writeSecret,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import { keyOptions, mountWritable } from '../support/qcow2fs.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

/** Bytes that each job has for itself. */
const SHARE = lane(1.5, 4) * MiB;
const JOBS = 6;

const IMAGES: readonly { readonly name: string; readonly spec: (dir: string) => ImageSpec }[] = [
  { name: 'a plain image', spec: () => ({}) },
  {
    name: 'a LUKS image with 4 KiB clusters',
    spec: (dir) => ({
      clusterSize: 4 * KiB,
      secret: writeSecret(dir, 'open sesame'),
      encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
    }),
  },
  { name: 'an image with 512-byte clusters', spec: () => ({ clusterSize: 512 }) },
  {
    name: 'an image with extended L2 entries and lazy refcounts',
    spec: () => ({ options: ['extended_l2=on', 'lazy_refcounts=on'] }),
  },
];

/** Direct jobs with 16 requests in flight beside buffered ones, in blocks of several sizes, all on one disk. */
function jobFile(disk: string, direct: boolean): string {
  const jobs = ['4k', '64k', '1k', '256k', '12k', '4k'].map((blockSize, index) =>
    [
      `[job${index}]`,
      `bs=${blockSize}`,
      // Half a KiB off, so that blocks lie across clusters and pages.
      `offset=${index * SHARE + (index % 2) * 512}`,
      `size=${SHARE - 256 * KiB}`,
    ].join('\n'),
  );
  return [
    '[global]',
    `filename=${disk}`,
    'rw=randwrite',
    ...(direct ? ['ioengine=libaio', 'iodepth=16', 'direct=1'] : ['ioengine=psync', 'fdatasync=64']),
    'verify=crc32c',
    'verify_fatal=1',
    `verify_backlog=${lane(128, 512)}`,
    'randrepeat=1',
    'allow_file_create=0',
    ...jobs,
    '',
  ].join('\n');
}

describe('fio', () => {
  const scratch = useScratch();

  for (const { name, spec } of IMAGES) {
    for (const direct of [true, false]) {
      it(`finds every block again: ${direct ? 'direct' : 'buffered'} writes to ${name}`, () => {
        const dir = scratch.subdir();
        const image = createImage(dir, { size: JOBS * SHARE, ...spec(dir) });
        const options = ['--threads', '4', ...keyOptions(image)];
        const { disk, unmount } = mountWritable(imagePath(image), dir, options);
        const jobs = path.join(dir, 'jobs.fio');
        fs.writeFileSync(jobs, jobFile(disk, direct));
        run('fio', [jobs], { cwd: dir });
        unmount();
        checkImage(image);

        // fio opens for writing what it once wrote, although it only looks now.
        const again = mountWritable(imagePath(image), dir, options);
        fs.writeFileSync(jobs, jobFile(again.disk, direct));
        run('fio', ['--verify_only', jobs], { cwd: dir });
        const seen = sha256(again.disk);
        again.unmount();
        expect(sha256(convertToRaw(image))).to.equal(seen);
        checkImage(image);
        fs.rmSync(dir, { recursive: true });
      });
    }
  }
});
