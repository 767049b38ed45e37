/** --overlay: what is written goes elsewhere, and nothing below it changes. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { useCleanUp } from '../support/clean-up.js';
import { expectUntouched, type FileState, rememberFiles, sha256, withFile } from '../support/files.js';
import { richGuest } from '../support/guests.js';
import {
  checkImage,
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  imagePath,
  MiB,
  qemuImg,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { lane } from '../support/lane.js';
import { daemonOf, endMount, mountWritableOn, openFilesOf, tryMount } from '../support/mounts.js';
import { patternBytes, SECTOR_SIZE } from '../support/pattern.js';
import { expectQcow2fs, keyOptions } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { NOBODY, useOrdinaryUser } from '../support/users.js';
import { waitUntil } from '../support/wait.js';

const SIZE = 4 * MiB;
const OFFSET = MiB + 3 * SECTOR_SIZE;
const MARKER = 'what nobody may find in the clear';
const SECRET = 'open sesame';

/** Written through the mount: the marker again and again. */
const DATA = Buffer.alloc(700 * SECTOR_SIZE, MARKER);

interface Base {
  readonly name: string;
  readonly encrypted: boolean;
  make(dir: string): Image;
}

const BASES: readonly Base[] = [
  {
    name: 'a plain chain with a data file',
    encrypted: false,
    make: (dir) => {
      createRaw(dir, 'bottom.raw', SIZE, 9);
      const backing = { file: 'bottom.raw', format: 'raw' } as const;
      // An overlay with an external data file: QEMU makes that, too.
      const image = createImage(dir, { size: SIZE, options: ['data_file=data.raw'], backing });
      writeSteps(image, 1, richGuest(SIZE, 65536));
      return image;
    },
  },
  {
    name: 'a LUKS image',
    encrypted: true,
    make: (dir) => encrypted(dir, ['encrypt.format=luks', 'encrypt.iter-time=10']),
  },
  {
    name: 'a LUKS image with another cipher',
    encrypted: true,
    make: (dir) =>
      encrypted(dir, [
        ...['encrypt.format=luks', 'encrypt.iter-time=10', 'encrypt.cipher-alg=aes-128'],
        ...['encrypt.cipher-mode=cbc', 'encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256'],
      ]),
  },
  { name: 'a legacy AES image', encrypted: true, make: (dir) => encrypted(dir, ['encrypt.format=aes']) },
];

function encrypted(dir: string, encryption: readonly string[]): Image {
  const secret = writeSecret(path.dirname(dir), SECRET);
  const image = createImage(dir, { size: SIZE, secret, encryption });
  writeSteps(image, 1, richGuest(SIZE, 65536));
  return image;
}

function write(disk: string): void {
  withFile(disk, 'r+', (fd) => fs.writeSync(fd, DATA, 0, DATA.length, OFFSET));
}

// SECURITY.md: "With `--overlay` the same holds for everything below the overlay"
describe('an overlay', () => {
  const scratch = useScratch();
  const defer = useCleanUp();

  for (const { name, encrypted: isEncrypted, make } of BASES) {
    describe(`over ${name}`, () => {
      let base: Image;
      let states: FileState[];
      let expected: Buffer;

      before(() => {
        base = make(scratch.subdir());
        expected = fs.readFileSync(convertToRaw(base));
        fs.rmSync(path.join(base.dir, 'expected.raw'));
        DATA.copy(expected, OFFSET);
      });
      beforeEach(() => {
        states = rememberFiles(base.dir);
      });

      /** The overlay as QEMU opens it. */
      function overlayImage(dir: string, file: string): Image {
        const keys = ['encrypt.key-secret=key', 'backing.encrypt.key-secret=key'];
        const opened = isEncrypted ? { secret: base.secret!, openOptions: keys } : { openOptions: [] };
        return { dir, name: file, ...opened };
      }

      // SECURITY.md: "The overlay that `--overlay` creates above an encrypted image is a LUKS image"
      it('takes all writes and is an image of its own, and what lies below stays as it was', () => {
        const file = `${base.dir}.qcow2`;
        const options = ['--overlay', file, ...keyOptions(base)];
        const { mountpoint, disk } = mountWritableOn(defer, imagePath(base), scratch.subdir(), options);
        write(disk);
        expect(fs.readFileSync(disk).equals(expected)).to.equal(true);
        expectQcow2fs(['umount', mountpoint]);
        expectUntouched(base.dir, states);

        const info = JSON.parse(qemuImg(scratch.dir, ['info', '--output=json', file]));
        expect(info['backing-filename']).to.equal(path.relative(scratch.dir, imagePath(base)));
        expect(info['backing-filename-format']).to.equal('qcow2');
        expect(info['virtual-size']).to.equal(SIZE);
        expect(info.encrypted ?? false).to.equal(isEncrypted);
        if (isEncrypted) expect(fs.readFileSync(file).includes(MARKER)).to.equal(false);

        // QEMU resolves the data file of the base against its own working directory.
        const overlay = overlayImage(base.dir, file);
        checkImage(overlay);
        const raw = convertToRaw(overlay, path.join('..', 'overlay.raw'));
        expect(fs.readFileSync(raw).equals(expected)).to.equal(true);

        // And it can be mounted itself.
        const again = mountWritableOn(defer, file, mountpoint, [
          ...keyOptions(base),
          '--allow-dir',
          base.dir,
        ]);
        expect(fs.readFileSync(again.disk).equals(expected)).to.equal(true);
        expectQcow2fs(['umount', mountpoint]);
      });

      it('that is temporary takes all writes and leaves nothing', async () => {
        const temporary = scratch.subdir();
        const ours = (): string[] => fs.readdirSync('/var/tmp').filter((name) => name.includes('qcow2fs'));
        const before = ours();
        const options = ['--overlay', 'temp', ...keyOptions(base)];
        const env = { ...process.env, TMPDIR: temporary };
        const { mountpoint, disk } = mountWritableOn(defer, imagePath(base), scratch.subdir(), options, {
          env,
        });
        write(disk);
        withFile(disk, 'r+', fs.fsyncSync);
        expect(fs.readdirSync(temporary)).to.deep.equal([]);
        const open = [...openFilesOf(daemonOf(mountpoint))];
        const held = open.filter(([, target]) => target.startsWith(`${temporary}/`));
        expect(held).to.have.length(1);
        if (isEncrypted) expect(fs.readFileSync(held[0]![0]).includes(MARKER)).to.equal(false);
        expect(fs.readFileSync(disk).equals(expected)).to.equal(true);
        expectQcow2fs(['umount', mountpoint]);
        expect(fs.readdirSync(temporary)).to.deep.equal([]);
        // Overlays of other processes have a name for a moment.
        await waitUntil('nothing is left', () => ours().every((name) => before.includes(name)));
        expectUntouched(base.dir, states);
      });

      // The failures do not depend on the cipher.
      const isOther = name === 'a LUKS image with another cipher';
      if (lane(isOther, false)) return;
      it('is not made when the mount fails', () => {
        const dir = scratch.subdir();
        const file = path.join(dir, 'changes.qcow2');
        const mountpoint = scratch.subdir();
        const expectRefusedOn = (place: string, status: number, ...args: string[]): void => {
          states = rememberFiles(base.dir);
          const result = tryMount(defer, ['--overlay', file, ...args, imagePath(base)], place);
          expect(result.stderr).to.match(/^qcow2fs: [^\n]+\n$/);
          expect(result.status, result.stderr).to.equal(status);
          expect(fs.readdirSync(dir)).to.deep.equal([]);
          expectUntouched(base.dir, states);
        };
        const expectRefused = expectRefusedOn.bind(undefined, mountpoint);
        const wrong = writeSecret(scratch.dir, 'wrong', 'wrong').file;
        // A legacy AES image cannot tell.
        if (name !== 'a legacy AES image') expectRefused(7, '--secret-file', wrong);
        if (isEncrypted) expectRefused(7);
        const place = path.join(mountpoint, 'file');
        fs.writeFileSync(place, '');
        expectRefused(9, ...keyOptions(base));
        // Found out only after the overlay was made.
        expectRefusedOn(place, 9, '--transport', 'libfuse', ...keyOptions(base));
        fs.rmSync(place);
        tool('mount', '-t', 'tmpfs', 'none', mountpoint);
        mountWritableOn(defer, imagePath(base), mountpoint, ['--overlay', 'temp', ...keyOptions(base)]);
        expectRefused(9, ...keyOptions(base));
      });
    });
  }

  it('does not take a file that exists', () => {
    const image = createImage(scratch.subdir(), { size: SIZE });
    const dir = scratch.subdir();
    for (const name of ['empty', 'full']) {
      fs.writeFileSync(path.join(dir, name), patternBytes(1, 0, name === 'empty' ? 0 : MiB));
    }
    for (const name of ['empty', 'full']) {
      const states = rememberFiles(dir);
      const file = path.join(dir, name);
      const { status, stderr } = tryMount(defer, ['--overlay', file, imagePath(image)], scratch.subdir());
      expect(stderr).to.match(/^qcow2fs: [^\n]*exists already[^\n]*\n$/);
      expect(stderr).to.contain(file);
      expect(status).to.equal(2);
      expectUntouched(dir, states);
    }
    // A symbolic link that points nowhere exists, too.
    fs.symlinkSync('nowhere', path.join(scratch.dir, 'link'));
    const linked = ['--overlay', path.join(scratch.dir, 'link'), imagePath(image)];
    expect(tryMount(defer, linked, scratch.subdir()).status).to.equal(2);
    expect(fs.existsSync(path.join(scratch.dir, 'nowhere'))).to.equal(false);
    const own = tryMount(defer, ['--overlay', imagePath(image), imagePath(image)], scratch.subdir());
    expect(own.status).to.equal(2);
  });

  it('is refused in one line where it cannot be made', () => {
    const image = createImage(scratch.subdir(), { size: SIZE });
    const file = path.join(scratch.dir, 'nowhere', 'changes.qcow2');
    const { status, stderr } = tryMount(defer, ['--overlay', file, imagePath(image)], scratch.subdir());
    expect(stderr).to.match(/^qcow2fs: [^\n]+\n$/);
    expect(stderr).to.contain(file);
    expect(status).to.equal(3);
  });

  it('can grow with --resizable, and what lies below does not', () => {
    const base = createImage(scratch.subdir(), { size: SIZE });
    writeSteps(base, 1, [{ do: 'data', offset: 0, length: SIZE }]);
    const states = rememberFiles(base.dir);
    const dir = scratch.subdir();
    const file = path.join(dir, 'changes.qcow2');
    const options = ['--resizable', '--overlay', file];
    const { mountpoint, disk } = mountWritableOn(defer, imagePath(base), scratch.subdir(), options);
    fs.truncateSync(disk, 3 * SIZE);
    const seen = sha256(disk);
    expectQcow2fs(['umount', mountpoint]);
    expectUntouched(base.dir, states);
    const overlay: Image = { dir, name: 'changes.qcow2', openOptions: [] };
    checkImage(overlay);
    expect(sha256(convertToRaw(overlay))).to.equal(seen);
  });

  describe('of an ordinary user', () => {
    const home = scratch.path('home');
    const asUser = useOrdinaryUser(home);
    const dir = scratch.subdir();
    let base: Image;

    before(() => {
      base = createImage(dir, { size: SIZE });
      writeSteps(base, 1, richGuest(SIZE, 65536));
      fs.chmodSync(imagePath(base), 0o444);
      // Access times stay as they are for the owner alone.
      fs.chownSync(imagePath(base), NOBODY.uid, NOBODY.gid);
      fs.chmodSync(dir, 0o555);
    });

    for (const target of ['changes.qcow2', 'temp']) {
      it(`makes an image writable that is not: --overlay ${target}`, () => {
        const mountpoint = fs.mkdtempSync(path.join(home, 'mnt-'));
        fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
        defer(() => endMount(mountpoint));
        const states = rememberFiles(dir);
        const file = target === 'temp' ? 'temp' : path.join(home, target);
        const mounted = asUser(['mount', '--overlay', file, imagePath(base), mountpoint]);
        expect(mounted.stderr).to.equal('');
        expect(mounted.status).to.equal(0);
        const disk = path.join(mountpoint, 'disk.raw');
        const dd = ['of', 'seek', 'bs', 'conv'].map(
          (word, index) => `${word}=${[disk, 3, 512, 'notrunc'][index]}`,
        );
        const written = spawnSync('dd', dd, { ...NOBODY, input: DATA });
        expect(written.status, String(written.stderr)).to.equal(0);
        const read = spawnSync('cat', [disk], { ...NOBODY, maxBuffer: 2 * SIZE });
        expect(read.stdout.subarray(3 * 512, 3 * 512 + DATA.length).equals(DATA)).to.equal(true);
        expect(asUser(['umount', mountpoint])).to.deep.equal({ status: 0, stdout: '', stderr: '' });
        expectUntouched(dir, states);
      });
    }

    it('is what a refusal to write the image recommends, or -r', () => {
      const mountpoint = fs.mkdtempSync(path.join(home, 'mnt-'));
      fs.chownSync(mountpoint, NOBODY.uid, NOBODY.gid);
      const { status, stderr } = asUser(['mount', imagePath(base), mountpoint]);
      expect(stderr).to.match(/^qcow2fs: [^\n]*EACCES[^\n]*-r\b[^\n]*\n$/);
      expect(status).to.equal(3);
    });
  });
});
