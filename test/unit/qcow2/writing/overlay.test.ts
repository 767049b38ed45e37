/** New overlays: what they share with what lies below, and whether they have a name. */
import crypto from 'node:crypto';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import { expect } from 'chai';
import { FileStorage, openReadOnly } from '../../../../src/host/file-storage.js';
import { parseLuksHeader } from '../../../../src/luks/header.js';
import { openDisk, openLayers } from '../../../../src/qcow2/chain.js';
import { removeOverlay } from '../../../../src/qcow2/writing/overlay.js';
import { hostOffset, readBytes } from '../../../support/damage.js';
import { luksHeader } from '../../../support/damage-luks.js';
import { createImage, type Image, imagePath, KiB, MiB, writeSecret } from '../../../support/images.js';
import { useScratch } from '../../../support/scratch.js';

const SIZE = 2 * MiB;
const CLUSTER = 64 * KiB;
const BLOCK = 16;
/** Of AES-256 in XTS mode. */
const KEY_BYTES = 64;
const SECRET = 'correct horse';
const [A, B] = [0x41, 0x42];

describe('an overlay of an encrypted image', () => {
  const scratch = useScratch();

  function makeBase(encryption: readonly string[]): Image {
    const dir = scratch.subdir();
    const secret = writeSecret(dir, SECRET);
    return createImage(dir, { name: 'base.qcow2', size: SIZE, secret, encryption });
  }

  const secret = (): Uint8Array => Uint8Array.from(Buffer.from(SECRET));

  async function write(
    image: Image,
    overlay: string | undefined,
    ...content: [number, number][]
  ): Promise<void> {
    const disk = await openDisk(imagePath(image), { secret: secret(), writable: true, overlay });
    let at = 0;
    for (const [byte, length] of content) {
      disk.write(Buffer.alloc(length, byte), 0, length, at);
      at += length;
    }
    disk.flush();
    disk.close();
  }

  /** Ciphertext of the guest's first `length` bytes, in blocks. */
  function blocksOf(file: string, length: number): string[] {
    const blocks: string[] = [];
    for (let guest = 0; guest < length; guest += CLUSTER) {
      const bytes = readBytes(file, hostOffset(file, guest), CLUSTER);
      for (let at = 0; at < CLUSTER; at += BLOCK) blocks.push(bytes.toString('latin1', at, at + BLOCK));
    }
    return blocks;
  }

  const luks = ['encrypt.format=luks', 'encrypt.iter-time=10'];
  const bases = {
    'LUKS in XTS mode': luks,
    'LUKS in CTR mode': [...luks, 'encrypt.cipher-mode=ctr', 'encrypt.ivgen-alg=plain64'],
    'LUKS in CBC mode': [...luks, 'encrypt.cipher-mode=cbc', 'encrypt.ivgen-alg=plain64'],
    'LUKS in ECB mode': [...luks, 'encrypt.cipher-mode=ecb', 'encrypt.ivgen-alg=plain64'],
    'legacy AES': ['encrypt.format=aes'],
  };
  for (const [name, encryption] of Object.entries(bases)) {
    it(`shares neither blocks nor keystream with it: ${name}`, async () => {
      const base = makeBase(encryption);
      const overlay = path.join(base.dir, 'overlay.qcow2');
      await write(base, undefined, [A, SIZE]);
      await write(base, overlay, [A, MiB / 2], [B, MiB / 2]);
      const known = new Set(blocksOf(imagePath(base), MiB));
      expect(blocksOf(overlay, MiB / 2).filter((block) => known.has(block))).to.deep.equal([]);

      const [below, above] = [fs.readFileSync(imagePath(base)), fs.readFileSync(overlay)];
      const length = Math.min(below.length, above.length);
      const difference = Buffer.alloc(length);
      for (let at = 0; at < length; at++) difference[at] = below[at]! ^ above[at]!;
      expect(difference.includes(Buffer.alloc(BLOCK, A ^ B))).to.equal(false);

      const disk = await openDisk(overlay, { secret: secret() });
      const read = Buffer.alloc(SIZE);
      disk.read(read, 0, SIZE, 0);
      disk.close();
      expect(
        read.equals(
          Buffer.concat([Buffer.alloc(MiB / 2, A), Buffer.alloc(MiB / 2, B), Buffer.alloc(MiB, A)]),
        ),
      ).to.equal(true);
    });
  }

  it('takes as long to open as that one', async () => {
    const base = makeBase(luks);
    const overlay = path.join(base.dir, 'overlay.qcow2');
    await write(base, overlay, [A, CLUSTER]);
    const [below, above] = [imagePath(base), overlay].map((file) => {
      const { offset } = luksHeader(file);
      return parseLuksHeader(readBytes(file, offset, 592));
    });
    expect(above!.keySlots[0]!.iterations).to.equal(Math.max(1000, below!.keySlots[0]!.iterations));
    expect(above!.keySlots.filter(({ active }) => active)).to.have.length(1);
    expect(above!.masterKeyDigest.equals(below!.masterKeyDigest)).to.equal(false);
  });

  it('has its key where all threads find it, and nowhere else', () => {
    const base = makeBase(luks);
    const made: Buffer[] = [];
    const { randomBytes } = crypto;
    const remember = (size: number): Buffer => {
      const bytes = randomBytes(size);
      made.push(bytes);
      return bytes;
    };
    Object.assign(crypto, { randomBytes: remember });
    syncBuiltinESMExports();
    try {
      const layers = openLayers(imagePath(base), { secret: secret(), writable: true, overlay: 'temp' });
      for (const layer of layers) new FileStorage(layer.file).close();
    } finally {
      Object.assign(crypto, { randomBytes });
      syncBuiltinESMExports();
    }
    const keys = made.filter(({ length }) => length === KEY_BYTES);
    expect(keys).to.deep.equal([Buffer.alloc(KEY_BYTES)]);
  });

  it('opens with no secret when it is temporary', () => {
    const base = makeBase(luks);
    const layers = openLayers(imagePath(base), { secret: secret(), writable: true, overlay: 'temp' });
    const file = `/proc/self/fd/${layers[0].file.fd}`;
    const { keySlots } = parseLuksHeader(readBytes(file, luksHeader(file).offset, 592));
    expect(keySlots.filter(({ state }) => state !== 'disabled')).to.deep.equal([]);
    for (const layer of layers) new FileStorage(layer.file).close();
  });
});

describe('a temporary overlay', () => {
  const scratch = useScratch();

  it('never has a name', async () => {
    const image = createImage(scratch.subdir(), { size: MiB });
    const directory = scratch.subdir();
    const names: string[] = [];
    const before = process.env['TMPDIR'];
    const watcher = fs.watch(directory);
    const marked = new Promise<void>((resolve) => {
      watcher.on('change', (_, name) => {
        names.push(String(name));
        if (name === 'marker') resolve();
      });
    });
    process.env['TMPDIR'] = directory;
    try {
      const disk = await openDisk(imagePath(image), { writable: true, overlay: 'temp' });
      disk.write(Buffer.alloc(CLUSTER, A), 0, CLUSTER, 0);
      disk.close();
    } finally {
      if (before === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = before;
    }
    fs.writeFileSync(path.join(directory, 'marker'), '');
    await marked;
    watcher.close();
    // By #NUMBER the kernel tells of a file that has none.
    expect(names.filter((name) => !/^#\d+$/.test(name))[0]).to.equal('marker');
  });
});

describe('an overlay that was never used', () => {
  const scratch = useScratch();

  it('goes, but no other file that has got its name', () => {
    const file = path.join(scratch.dir, 'overlay');
    fs.writeFileSync(file, '');
    const made = openReadOnly(file);
    fs.renameSync(file, `${file}.mine`);
    fs.writeFileSync(file, 'of somebody else');
    removeOverlay(made);
    expect(fs.readFileSync(file, 'utf8')).to.equal('of somebody else');
    fs.renameSync(`${file}.mine`, file);
    removeOverlay(made);
    removeOverlay(made);
    fs.closeSync(made.fd);
    expect(fs.existsSync(file)).to.equal(false);
  });
});
