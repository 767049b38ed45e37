/** Read-only means untouched: no byte and no time stamp of any file of a chain changes, whatever is tried. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { seekData } from '../../src/host/libc.js';
import { useCleanUp } from '../support/clean-up.js';
import { expectUntouched, type FileState, rememberFiles, sha256 } from '../support/files.js';
import { overlayGuest, richGuest } from '../support/guests.js';
import {
  createImage,
  createRaw,
  type ImageSpec,
  imagePath,
  MiB,
  type Secret,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { mountOn } from '../support/mounts.js';
import { expectQcow2fs, qcow2fs } from '../support/qcow2fs.js';
import { tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const SIZE = 3 * MiB;
const REFUSALS = /EROFS|EACCES|EPERM|ENOTSUP|EOPNOTSUPP/;

interface Chain {
  readonly dir: string;
  readonly image: string;
  readonly key: readonly string[];
}

/** An overlay on a base with an external data file on a raw file. */
function plainChain(dir: string): Chain {
  const steps = richGuest(SIZE, 65536);
  createRaw(dir, 'bottom.raw', SIZE, 9);
  const layers: ImageSpec[] = [
    { name: 'base.qcow2', backing: { file: 'bottom.raw', format: 'raw' } },
    { name: 'data.qcow2', options: ['data_file=data.raw'], backing: { file: 'base.qcow2', format: 'qcow2' } },
    { name: 'top.qcow2', backing: { file: 'data.qcow2', format: 'qcow2' } },
  ];
  const images = layers.map((layer, index) => {
    const image = createImage(dir, { size: SIZE, ...layer });
    writeSteps(image, index, index === 2 ? overlayGuest(SIZE, 65536) : steps);
    return image;
  });
  takeSnapshot(images[2]!, 'before', '1');
  return { dir, image: imagePath(images[2]!), key: [] };
}

/** A plain overlay on a LUKS image. */
function luksChain(dir: string): Chain {
  const secret: Secret = writeSecret(path.dirname(dir), 'open sesame');
  const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
  const base = createImage(dir, { name: 'base.qcow2', size: SIZE, secret, encryption });
  writeSteps(base, 1, richGuest(SIZE, 65536));
  const backing = { file: 'base.qcow2', format: 'qcow2', encrypted: true } as const;
  const top = createImage(dir, { name: 'top.qcow2', size: SIZE, backing });
  takeSnapshot({ ...base, name: 'base.qcow2' }, 'below', '1');
  return { dir, image: imagePath(top), key: ['--secret-file', secret.file] };
}

/** Everything that would change a disk or its directory. */
const CHANGES: readonly (readonly [what: string, change: (disk: string, dir: string) => void])[] = [
  ['opening for writing', (disk) => fs.closeSync(fs.openSync(disk, 'r+'))],
  ['opening for writing alone', (disk) => fs.closeSync(fs.openSync(disk, fs.constants.O_WRONLY))],
  ['opening for appending', (disk) => fs.closeSync(fs.openSync(disk, 'a'))],
  ['emptying', (disk) => fs.closeSync(fs.openSync(disk, 'w'))],
  ['truncating', (disk) => fs.truncateSync(disk, 512)],
  ['growing', (disk) => fs.truncateSync(disk, 2 * SIZE)],
  ['changing the mode', (disk) => fs.chmodSync(disk, 0o777)],
  ['changing the owner', (disk) => fs.chownSync(disk, 65534, 65534)],
  ['setting times', (disk) => fs.utimesSync(disk, 1, 1)],
  ['removing', (disk) => fs.unlinkSync(disk)],
  ['renaming', (disk, dir) => fs.renameSync(disk, path.join(dir, 'other'))],
  ['linking', (disk, dir) => fs.linkSync(disk, path.join(dir, 'other'))],
  ['creating a file', (_, dir) => fs.writeFileSync(path.join(dir, 'other'), '')],
  ['creating a directory', (_, dir) => fs.mkdirSync(path.join(dir, 'other'))],
  ['creating a symbolic link', (_, dir) => fs.symlinkSync('x', path.join(dir, 'other'))],
  ['removing the directory', (_, dir) => fs.rmdirSync(path.join(dir, '.'))],
];
const TOOLS: readonly (readonly [what: string, ...command: string[]])[] = [
  ['fallocate', 'fallocate', '--punch-hole', '--length', '4096', 'DISK'],
  ['fallocate of more', 'fallocate', '--length', '9MiB', 'DISK'],
  ['dd', 'dd', 'if=/dev/zero', 'of=DISK', 'bs=512', 'count=1', 'conv=notrunc'],
  ['direct dd', 'dd', 'if=/dev/zero', 'of=DISK', 'bs=4096', 'count=1', 'conv=notrunc', 'oflag=direct'],
  ['mkfifo', 'mkfifo', 'DIR/other'],
];

function expectAllRefused(disk: string, dir: string): void {
  for (const [what, change] of CHANGES) {
    let failure = 'nothing';
    try {
      change(disk, dir);
    } catch (error) {
      failure = String(error);
    }
    if (what !== 'removing the directory') expect(failure, what).to.match(REFUSALS);
    else expect(failure, what).to.match(/EROFS|EINVAL|EBUSY|EPERM/);
  }
  for (const [what, ...command] of TOOLS) {
    const words = command.map((word) => word.replace('DISK', disk).replace('DIR', dir));
    const { status, stderr } = tryTool(words[0]!, ...words.slice(1));
    expect(status, what).to.not.equal(0);
    expect(stderr, what).to.match(/Read-only file system|Permission denied|not supported/);
  }
}

// SECURITY.md: "Mounted with `-r`, no byte and no time stamp of the image, its backing files and its data
// file changes, whatever is tried, even by root: they are opened read-only"
for (const [kind, make] of [
  ['a chain with an external data file and a raw base', plainChain],
  ['a chain with a LUKS base', luksChain],
] as const) {
  describe(`read-only use of ${kind}`, () => {
    const scratch = useScratch();
    const defer = useCleanUp();
    let chain: Chain;
    let states: FileState[];

    before(() => {
      chain = make(scratch.subdir());
    });
    beforeEach(() => {
      states = rememberFiles(chain.dir);
    });
    afterEach(() => expectUntouched(chain.dir, states));

    for (const transport of ['kernel', 'libfuse']) {
      it(`leaves every file as it was, with the ${transport} transport`, () => {
        const args = ['--transport', transport, ...chain.key];
        const { mountpoint, disk } = mountOn(defer, chain.image, scratch.subdir(), args);
        const whole = sha256(disk);
        expectAllRefused(disk, mountpoint);
        const fd = fs.openSync(disk, 'r');
        seekData(fd, 0);
        fs.fsyncSync(fd);
        fs.closeSync(fd);
        expect(sha256(disk)).to.equal(whole);
        expectQcow2fs(['umount', mountpoint]);
      });
    }

    it('refuses writes even after root has remounted it for writing', () => {
      const { mountpoint, disk } = mountOn(defer, chain.image, scratch.subdir(), chain.key);
      tryTool('mount', '-i', '-o', 'remount,rw', mountpoint);
      expectAllRefused(disk, mountpoint);
      expectQcow2fs(['umount', mountpoint]);
    });

    it('leaves every file as it was after a single-file mount', () => {
      const file = path.join(scratch.subdir(), 'file.raw');
      fs.writeFileSync(file, '');
      const { disk } = mountOn(defer, chain.image, file, chain.key);
      sha256(disk);
      expect(() => fs.openSync(disk, 'r+')).to.throw(/EROFS/);
      expectQcow2fs(['umount', file]);
    });

    it('leaves every file as it was after info and list', () => {
      expectQcow2fs(['info', chain.image]);
      expectQcow2fs(['info', '--json', chain.image]);
      expectQcow2fs(['info', path.join(chain.dir, 'base.qcow2')]);
      expectQcow2fs(['list']);
    });

    it('leaves every file as it was after mounts that fail', () => {
      const mountpoint = scratch.subdir();
      const wrong = writeSecret(scratch.dir, 'wrong', 'wrong-secret').file;
      const failing = [
        ['--secret-file', wrong],
        [...chain.key, '--snapshot', 'no such snapshot'],
        [...chain.key, '--threads', '0'],
      ];
      for (const args of failing) {
        expect(
          qcow2fs(['mount', '-r', ...args, chain.image, mountpoint]).status,
          args.join(' '),
        ).to.be.greaterThan(1);
      }
      fs.writeFileSync(path.join(mountpoint, 'file'), '');
      expect(qcow2fs(['mount', '-r', ...chain.key, chain.image, mountpoint]).status).to.equal(9);
    });
  });
}
