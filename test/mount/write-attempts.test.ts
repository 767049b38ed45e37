/** A read-only disk is changed by no system call, whoever tries and wherever it is mounted; nor is its image. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { expectUntouched, type FileState, refusalOf, rememberFiles, sha256 } from '../support/files.js';
import { createImage, imagePath, MiB, writeSteps } from '../support/images.js';
import { attachLoop } from '../support/loops.js';
import { endMount, mountOn } from '../support/mounts.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { run, tool, tryTool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { canRead, NOBODY, STRANGER, useOrdinaryUser } from '../support/users.js';
import type { Outcome } from './write-attempts.js';

const SCRIPT = fileURLToPath(new URL('write-attempts.js', import.meta.url));
const SIZE = 2 * MiB;
/** EXDEV and EBUSY: the mount is not even asked. EBADF and EINVAL: the descriptor is one for reading. */
const REFUSED =
  /^(EROFS|EACCES|EPERM|EBADF|EINVAL|EOPNOTSUPP|ENOTSUP|ENOTTY|ENOSYS|EXDEV|EBUSY|ENODATA|ETXTBSY)$/;
const PLACES = [
  ['kernel', 'directory'],
  ['kernel', 'file'],
  ['libfuse', 'directory'],
] as const;

// SECURITY.md: "Mounted with `-r`, no byte and no time stamp of the image, its backing files and its data
// file changes, whatever is tried, even by root: they are opened read-only"
describe('a read-only disk', () => {
  const scratch = useScratch();
  const defer = useCleanUp();
  const home = scratch.path('home');
  const asUser = useOrdinaryUser(home);
  const dir = path.join(scratch.dir, 'images');
  let image: string;
  let states: FileState[];

  before(() => {
    fs.mkdirSync(dir, { mode: 0o755 });
    const made = createImage(dir, { size: SIZE });
    writeSteps(made, 1, [{ do: 'data', offset: 0, length: MiB }]);
    image = imagePath(made);
    fs.chmodSync(image, 0o666);
    // Who does not own a file cannot keep its access time from changing.
    fs.chownSync(image, NOBODY.uid, NOBODY.gid);
  });
  beforeEach(() => {
    states = rememberFiles(dir);
  });
  afterEach(() => expectUntouched(dir, states));

  /** An empty place to mount on, which belongs to the ordinary user. */
  function makeMountpoint(kind: 'directory' | 'file'): string {
    const mountpoint = path.join(fs.mkdtempSync(path.join(home, 'place-')), 'mnt');
    if (kind === 'file') fs.writeFileSync(mountpoint, '');
    else fs.mkdirSync(mountpoint);
    giveAway(mountpoint);
    return mountpoint;
  }

  /** So that nothing but the disk itself can be what refuses. */
  function giveAway(file: string): void {
    for (const place of [file, path.dirname(file)]) {
      fs.chownSync(place, NOBODY.uid, NOBODY.gid);
      fs.chmodSync(place, 0o777);
    }
  }

  function expectAllRefused(disk: string, user?: { uid: number; gid: number }): void {
    const other = path.join(fs.mkdtempSync(path.join(home, 'other-')), 'file');
    fs.writeFileSync(other, Buffer.alloc(65536, 1));
    giveAway(other);
    const words = [SCRIPT, disk, other, ...(user === undefined ? [] : [String(user.uid), String(user.gid)])];
    const outcomes = JSON.parse(run(process.execPath, words)) as Outcome[];
    expect(outcomes).to.have.length.greaterThan(30);
    for (const [what, refusal] of outcomes) expect(refusal, what).to.match(REFUSED);
  }

  for (const [transport, kind] of PLACES) {
    const args = ['-r', '--transport', transport];
    it(`of root on a ${kind} is changed neither by root nor by others: ${transport}`, () => {
      const mountpoint = makeMountpoint(kind);
      const { disk } = mountOn(defer, image, mountpoint, [
        ...args.slice(1),
        '--allow-other',
        '--mode',
        '666',
      ]);
      const before = sha256(disk);
      expectAllRefused(disk);
      expectAllRefused(disk, NOBODY);
      expectAllRefused(disk, STRANGER);
      // The kernel knows that it may not write before it asks: it is told so, and nothing is written.
      tryTool('mount', '-i', '-o', 'remount,rw', mountpoint);
      expectAllRefused(disk);
      expect(sha256(disk)).to.equal(before);
      expectQcow2fs(['umount', mountpoint]);
    });

    it(`of an ordinary user on a ${kind} is not changed by that user, and closed to root: ${transport}`, () => {
      const mountpoint = makeMountpoint(kind);
      defer(() => endMount(mountpoint));
      const { status, stderr } = asUser(['mount', ...args, image, mountpoint]);
      expect(stderr).to.equal('');
      expect(status).to.equal(0);
      const disk = kind === 'file' ? mountpoint : path.join(mountpoint, 'disk.raw');
      expectAllRefused(disk, NOBODY);
      expect(canRead(disk, NOBODY)).to.equal(true);
      expect(canRead(disk, STRANGER)).to.equal(false);
      expect(refusalOf(() => fs.openSync(disk, 'r'))).to.equal('EACCES');
      expect(refusalOf(() => fs.statSync(disk))).to.equal('EACCES');
      expect(asUser(['umount', mountpoint]).status).to.equal(0);
    });

    it(`on a ${kind} makes a loop device that cannot be written, even when nobody says -r: ${transport}`, () => {
      const { disk, mountpoint } = mountOn(defer, image, makeMountpoint(kind), args.slice(1));
      const before = sha256(disk);
      const loop = attachLoop(defer, disk);
      expect(tool('blockdev', '--getro', loop).trim()).to.equal('1');
      tryTool('blockdev', '--setrw', loop);
      for (const flag of ['conv=fsync', 'oflag=direct']) {
        const written = tryTool('dd', 'if=/dev/urandom', `of=${loop}`, 'bs=4096', 'count=1', flag);
        expect(written.status, flag).to.not.equal(0);
      }
      expect(tryTool('blkdiscard', '--force', loop).status).to.not.equal(0);
      expect(sha256(disk)).to.equal(before);
      tool('losetup', '--detach', loop);
      tryTool('umount', '-l', mountpoint);
    });
  }
});
