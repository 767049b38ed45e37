import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { FileStorage, openReadOnly } from '../../../../src/host/file-storage.js';
import { createLuksHeader } from '../../../../src/luks/create.js';
import { encodeHeader, parseHeader } from '../../../../src/qcow2/format/header.js';
import { parseImageName } from '../../../../src/qcow2/image-name.js';
import { backingNameFor, createImage, type OverlaySpec } from '../../../../src/qcow2/writing/create.js';
import { readExtensions } from '../../../support/damage.js';
import {
  checkImage,
  convertToRaw,
  createRaw,
  type Image,
  imagePath,
  KiB,
  MiB,
  createImage as makeBase,
  qemuImg,
  qemuIo,
  TiB,
  writeSecret,
} from '../../../support/images.js';
import { patternBytes } from '../../../support/pattern.js';
import { useScratch } from '../../../support/scratch.js';
import { expectError } from '../../support/errors.js';
import { headerBytes } from '../../support/headers.js';

describe('an overlay that is made', () => {
  const scratch = useScratch();

  function writable(file: string): FileStorage {
    const fd = fs.openSync(file, 'a+');
    fs.closeSync(fd);
    const readOnly = openReadOnly(file);
    fs.closeSync(readOnly.fd);
    return new FileStorage({ ...readOnly, fd: fs.openSync(file, 'r+') });
  }

  function make(dir: string, spec: Partial<OverlaySpec>, openOptions: readonly string[] = []): Image {
    const storage = writable(path.join(dir, 'overlay.qcow2'));
    try {
      const plain = {
        size: MiB,
        backingFile: 'base.raw',
        backingFormat: 'raw',
        luksHeader: undefined,
      } as const;
      createImage(storage, { ...plain, ...spec });
    } finally {
      storage.close();
    }
    return { dir, name: 'overlay.qcow2', openOptions };
  }

  const sizes = { '0': 0, '512': 512, '1 MiB + 512': MiB + 512, '1 TiB': TiB, '100 TiB': 100 * TiB };
  for (const [label, size] of Object.entries(sizes)) {
    it(`of ${label} bytes is one that QEMU makes, and can be written`, () => {
      const dir = scratch.subdir();
      const base = createRaw(dir, 'base.raw', Math.min(size, 128 * KiB), 7);
      const content = fs.readFileSync(base);
      // What lies beyond the base reads as zeros.
      const image = make(dir, { size });
      checkImage(image);
      const info = JSON.parse(qemuImg(dir, ['info', '--output=json', image.name]));
      expect(info).to.include({
        'virtual-size': size,
        'cluster-size': 65536,
        'backing-filename': 'base.raw',
        'backing-filename-format': 'raw',
      });
      expect(info['format-specific'].data).to.deep.include({ compat: '1.1', 'refcount-bits': 16 });
      const theirs = path.join(dir, 'qemu.qcow2');
      qemuImg(dir, [
        ...['create', '-q', '-u', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', theirs, String(size)],
      ]);
      expect(readExtensions(imagePath(image))).to.deep.equal(readExtensions(theirs));
      const aligned = Math.ceil(fs.statSync(theirs).size / (64 * KiB)) * 64 * KiB;
      expect(fs.statSync(imagePath(image)).size, 'bytes').to.equal(aligned);

      if (size > 0) {
        qemuIo(image, ['write -P 0x5a 0 512', `write -P 0xa5 ${size - 512} 512`]);
        checkImage(image);
        qemuIo(image, [`read -P 0xa5 ${size - 512} 512`, ...(size > 512 ? ['read -P 0x5a 0 512'] : [])]);
      }
      expect(fs.readFileSync(base).equals(content), 'the base is as it was').to.equal(true);
    });
  }

  it('shows what its base shows', () => {
    const dir = scratch.subdir();
    const base = makeBase(dir, { name: 'base.qcow2', size: 2 * MiB + 512 });
    fs.writeFileSync(path.join(dir, 'data'), patternBytes(3, 0, 300 * KiB));
    qemuIo(base, [`write -s data 64k 300k`]);
    const image = make(dir, { size: 2 * MiB + 512, backingFile: 'base.qcow2', backingFormat: 'qcow2' });
    qemuImg(dir, ['compare', '-q', 'base.qcow2', image.name]);
    expect(fs.readFileSync(convertToRaw(image)).equals(fs.readFileSync(convertToRaw(base, 'base')))).to.equal(
      true,
    );
  });

  it('has larger clusters where its L1 table would be too large', () => {
    const dir = scratch.subdir();
    for (const [size, clusterSize] of [
      [2 ** 51, 64 * KiB],
      [2 ** 51 + 512, 128 * KiB],
      [2 ** 53 - 512, 128 * KiB],
    ] as const) {
      fs.rmSync(path.join(dir, 'overlay.qcow2'), { force: true });
      const image = make(dir, { size });
      const info = qemuImg(dir, ['info', '-U', '--output=json', image.name]);
      expect(JSON.parse(info)).to.include({ 'virtual-size': size, 'cluster-size': clusterSize });
    }
  });

  for (const [cipherName, cipherMode, hashSpec, keyBytes] of [
    ['aes', 'xts-plain64', 'sha256', 64],
    ['aes', 'cbc-essiv:sha256', 'sha1', 32],
    ['serpent', 'ctr-plain64', 'sha512', 32],
    ['twofish', 'cbc-plain', 'ripemd160', 16],
  ] as const) {
    it(`with a LUKS header opens with the secret of that: ${cipherName}-${cipherMode}, ${hashSpec}`, () => {
      const dir = scratch.subdir();
      const secret = writeSecret(dir, 'correct horse');
      createRaw(dir, 'base.raw', MiB, 7);
      const words = { cipherName, cipherMode, hashSpec, keyBytes };
      const passphrase = { secret: fs.readFileSync(secret.file), iterations: 2000 };
      const luksHeader = createLuksHeader(words, randomBytes(keyBytes), passphrase);
      const image: Image = { ...make(dir, { luksHeader }, ['encrypt.key-secret=key']), secret };
      checkImage(image);
      qemuIo(image, ['write -P 0x22 4k 4k', 'write -P 0x33 512k 64k']);
      qemuIo(image, ['read -P 0x22 4k 4k', 'read -P 0x33 512k 64k']);
      const read = fs.readFileSync(convertToRaw(image));
      expect(read.subarray(8 * KiB, 512 * KiB).equals(patternBytes(7, 8 * KiB, 504 * KiB))).to.equal(true);
      checkImage(image);
      for (const byte of [0x22, 0x33]) {
        expect(fs.readFileSync(imagePath(image)).includes(Buffer.alloc(512, byte)), 'plaintext').to.equal(
          false,
        );
      }
      const info = JSON.parse(qemuImg(dir, ['info', '--output=json', image.name]));
      expect(info['format-specific'].data.encrypt['hash-alg']).to.equal(hashSpec);
    });
  }

  it('takes a name of 1023 bytes, and no longer one', () => {
    const dir = scratch.subdir();
    const longest = `/${'é'.repeat(511)}`;
    const image = make(dir, { backingFile: longest });
    const info = JSON.parse(qemuImg(dir, ['info', '--output=json', image.name]));
    expect(info['backing-filename']).to.equal(longest);
    fs.rmSync(imagePath(image));
    const words = [imagePath(image), '1024 bytes', 'beside the image'];
    expectError('usage', words, () => make(dir, { backingFile: `${longest}x` }));
    expect(fs.statSync(imagePath(image)).size, 'bytes written').to.equal(0);
  });

  it('never replaces a file that holds something', () => {
    const dir = scratch.subdir();
    fs.writeFileSync(path.join(dir, 'overlay.qcow2'), 'precious');
    expectError('usage', ['not empty'], () => make(dir, {}));
    expect(fs.readFileSync(path.join(dir, 'overlay.qcow2'), 'utf8')).to.equal('precious');
  });

  describe('names its base', () => {
    function directories(): { top: string; sub: string; link: string } {
      const top = scratch.subdir();
      const [sub, link] = [path.join(top, 'sub'), path.join(top, 'link')];
      fs.mkdirSync(sub);
      fs.symlinkSync('sub', link);
      return { top, sub, link };
    }

    it('relatively in its own directory and below it, else absolutely', () => {
      const { top, sub } = directories();
      expect(backingNameFor(`${top}/o`, `${top}/base`)).to.equal('base');
      expect(backingNameFor(`${top}/o`, `${sub}/base`)).to.equal('sub/base');
      expect(backingNameFor(`${sub}/o`, `${top}/base`)).to.equal(`${top}/base`);
      expect(backingNameFor(`${top}/o`, `${top}/..base`)).to.equal('..base');
    });

    it('by the real directories', () => {
      const { top, sub, link } = directories();
      expect(backingNameFor(`${link}/o`, `${sub}/base`)).to.equal('base');
      expect(backingNameFor(`${sub}/o`, `${link}/base`)).to.equal('base');
      expect(backingNameFor(`${top}/o`, `${link}/base`)).to.equal('sub/base');
      expect(backingNameFor(`${sub}/o`, `${link}/../base`)).to.equal(`${top}/base`);
      expectError('host-io', [`${top}/none/o`, 'ENOENT'], () =>
        backingNameFor(`${top}/none/o`, `${top}/base`),
      );
    });

    it('so that no name is taken for a protocol or for JSON', () => {
      const { top, sub } = directories();
      for (const name of ['a:b.qcow2', 'json:{}', 'nbd:x', ':x']) {
        expect(backingNameFor(`${top}/o`, `${top}/${name}`)).to.equal(`./${name}`);
        expect(backingNameFor(`${top}/o`, `${sub}/${name}`)).to.equal(`sub/${name}`);
        expect(backingNameFor(`${sub}/o`, `${top}/${name}`)).to.equal(`${top}/${name}`);
        createRaw(top, name, MiB, 5);
        const image = make(top, { backingFile: backingNameFor(`${top}/o`, `${top}/${name}`) });
        expect(fs.readFileSync(convertToRaw(image)).equals(patternBytes(5, 0, MiB)), name).to.equal(true);
        expect(parseImageName(`./${name}`, 'overlay').filename).to.equal(`./${name}`);
        fs.rmSync(imagePath(image));
      }
    });
  });
});

describe('a header that is encoded', () => {
  const cases = {
    'of version 3': headerBytes({
      cryptMethod: 1,
      backingFileOffset: 0x200,
      backingFileSize: 9,
      nbSnapshots: 2,
      snapshotsOffset: 0x70000,
      incompatibleFeatures: 0x1c,
      compatibleFeatures: 1,
      autoclearFeatures: 2,
      refcountOrder: 6,
      compressionType: 1,
    }),
    'of 104 bytes': headerBytes({ headerLength: 104 }, 104),
    'of version 2': headerBytes({ version: 2, cryptMethod: 2 }, 72),
  };
  for (const [which, bytes] of Object.entries(cases)) {
    it(`${which} has the bytes that it was parsed from`, () => {
      expect(encodeHeader(parseHeader(bytes, 'image')).toString('hex')).to.equal(bytes.toString('hex'));
    });
  }
});
