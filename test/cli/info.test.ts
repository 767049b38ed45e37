/** `qcow2fs info`, compared with what `qemu-img info` says of the same image. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { ImageInfo } from '../../src/qcow2/info.js';
import { addFeatureName, setFeatureBit } from '../support/damage.js';
import { patchLuks } from '../support/damage-luks.js';
import { addBitmaps, addSnapshots } from '../support/directories.js';
import {
  addBitmap,
  amendKeySlots,
  createImage,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { expectInProcess, runInProcess } from '../support/in-process.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { tool } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const SIZE = 3 * MiB;

async function info(image: string): Promise<ImageInfo> {
  return JSON.parse(await expectInProcess(['info', '--json', image])) as ImageInfo;
}

/** What qemu-img says, in the words of `ImageInfo`. */
function reference(image: Image): unknown {
  const said = JSON.parse(qemuImg(image.dir, ['info', '-U', '--output=json', image.name]));
  const data = said['format-specific'].data;
  const luks = data.encrypt?.format === 'luks' ? data.encrypt : undefined;
  return {
    version: data.compat === '0.10' ? 2 : 3,
    virtualSize: said['virtual-size'],
    fileSize: fs.statSync(imagePath(image)).size,
    diskUsage: said['actual-size'],
    clusterSize: said['cluster-size'],
    compressionType: data['compression-type'],
    refcountBits: data['refcount-bits'],
    lazy: data['lazy-refcounts'] ?? false,
    corrupt: data.corrupt ?? false,
    dirty: said['dirty-flag'],
    extendedL2: data['extended-l2'] ?? false,
    rawData: data['data-file-raw'] ?? false,
    dataFile: data['data-file'] ?? null,
    backingFile: said['backing-filename'] ?? null,
    backingFormat: said['backing-filename-format'] ?? null,
    method: data.encrypt?.format ?? null,
    luks:
      luks === undefined
        ? null
        : [
            luks.uuid,
            luks['cipher-alg'],
            luks['cipher-mode'],
            luks['ivgen-alg'],
            luks['hash-alg'],
            luks['master-key-iters'],
          ],
    slots:
      luks?.slots.map((slot: Record<string, unknown>) => [slot['active'], slot['iters'], slot['stripes']]) ??
      null,
    snapshots: (said.snapshots ?? []).map((entry: Record<string, number | string>) => [
      entry['id'],
      entry['name'],
      Number(entry['date-sec']),
      entry['vm-state-size'],
    ]),
    bitmaps: (data.bitmaps ?? []).map((bitmap: Record<string, unknown>) => [
      bitmap['name'],
      bitmap['granularity'],
      bitmap['flags'],
    ]),
  };
}

/** The same of our own. */
function comparable(found: ImageInfo): unknown {
  const { incompatible, compatible, autoclear } = found.features;
  const luks = found.encryption?.luks;
  return {
    version: found.version,
    virtualSize: found.virtualSize,
    fileSize: found.fileSize,
    diskUsage: found.diskUsage,
    clusterSize: found.clusterSize,
    compressionType: found.compressionType,
    refcountBits: found.refcountBits,
    lazy: compatible.includes('lazy refcounts'),
    corrupt: incompatible.includes('corrupt bit'),
    dirty: incompatible.includes('dirty bit'),
    extendedL2: incompatible.includes('extended L2 entries'),
    rawData: autoclear.includes('raw external data'),
    dataFile: found.dataFile,
    backingFile: found.backingFile,
    backingFormat: found.backingFormat,
    method: found.encryption?.method ?? null,
    luks: luks
      ? [
          luks.uuid,
          `${luks.cipher}-${cipherBits(luks)}`,
          luks.mode,
          luks.ivGenerator,
          luks.hash,
          luks.digestIterations,
        ]
      : null,
    slots:
      luks?.keySlots.map((slot) =>
        slot.active ? [true, slot.iterations, slot.stripes] : [false, undefined, undefined],
      ) ?? null,
    snapshots: found.snapshots.map(({ id, name, date, vmStateSize }) => [
      id,
      name,
      Math.floor(Date.parse(date) / 1000),
      vmStateSize,
    ]),
    bitmaps: found.bitmaps.map(({ name, granularity, inUse, auto }) => [
      name,
      granularity,
      [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])],
    ]),
  };
}

const cipherBits = (luks: { mode: string; keyBits: number }): number =>
  luks.mode === 'xts' ? luks.keyBits / 2 : luks.keyBits;

const plain: readonly (readonly [name: string, spec: ImageSpec, change?: (image: Image) => void])[] = [
  ['a version 2 image', { version: 2 }],
  ['512-byte clusters and 1-bit refcounts', { clusterSize: 512, options: ['refcount_bits=1'] }],
  [
    '2 MiB clusters, zstd and lazy refcounts',
    { clusterSize: 2 * MiB, options: ['compression_type=zstd', 'lazy_refcounts=on'] },
  ],
  ['extended L2 entries', { options: ['extended_l2=on'] }],
  ['an external data file', { options: ['data_file=data.raw'] }],
  ['a raw external data file', { options: ['data_file=data.raw', 'data_file_raw=on'] }],
  ['a dirty image', {}, (image) => setFeatureBit(imagePath(image), 'incompatibleFeatures', 0)],
  ['a corrupt image', {}, (image) => setFeatureBit(imagePath(image), 'incompatibleFeatures', 1)],
  ['bitmaps', {}, (image) => ['one', 'größer'].forEach((name) => void addBitmap(image, name))],
  ['snapshots', {}, (image) => void [takeSnapshot(image, 'first', '1'), takeSnapshot(image, 'größer', '2')]],
  ['a backing file', { backing: { file: 'base.raw', format: 'raw' } }],
];

describe('qcow2fs info', () => {
  const scratch = useScratch();
  const secret = writeSecret(scratch.dir, 'open sesame');
  const luks = ['encrypt.format=luks', 'encrypt.iter-time=10'];

  async function expectAgreement(image: Image): Promise<void> {
    expect(comparable(await info(imagePath(image)))).to.deep.equal(reference(image));
  }

  for (const [name, spec, change] of plain) {
    it(`agrees with qemu-img info on ${name}`, async () => {
      const image = createImage(scratch.subdir(), { size: SIZE, ...spec });
      fs.writeFileSync(path.join(image.dir, 'base.raw'), '');
      change?.(image);
      await expectAgreement(image);
    });
  }

  it('agrees with qemu-img info on a LUKS image with two key slots', async () => {
    const image = createImage(scratch.subdir(), { size: SIZE, secret, encryption: luks });
    const added = writeSecret(image.dir, 'another', 'added');
    amendKeySlots(image, ['state=active', 'new-secret=added', 'keyslot=5', 'iter-time=10'], added);
    await expectAgreement(image);
    expect(
      (await info(imagePath(image))).encryption?.luks?.keySlots.map(({ active }) => active),
    ).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7].map((slot) => slot === 0 || slot === 5));
  });

  it('agrees with qemu-img info on legacy AES', async () => {
    await expectAgreement(
      createImage(scratch.subdir(), { size: SIZE, secret, encryption: ['encrypt.format=aes'] }),
    );
  });

  it('shows ciphers that cannot be mounted', async () => {
    const image = imagePath(createImage(scratch.subdir(), { size: SIZE, secret, encryption: luks }));
    patchLuks(image, 'cipherName', 'serpent');
    patchLuks(image, 'cipherMode', 'cbc-essiv:whirlpool');
    expect((await info(image)).encryption?.luks).to.include({
      cipher: 'serpent',
      mode: 'cbc',
      ivGenerator: 'essiv',
      ivHash: 'whirlpool',
    });
    expect(await expectInProcess(['info', image])).to.contain('serpent');
  });

  it('names features by the table of the image', async () => {
    const image = imagePath(createImage(scratch.subdir(), { size: SIZE }));
    addFeatureName(image, 'compatible', 33, 'time travel');
    setFeatureBit(image, 'compatibleFeatures', 33);
    setFeatureBit(image, 'autoclearFeatures', 44);
    expect((await info(image)).features).to.deep.equal({
      incompatible: [],
      compatible: ['time travel'],
      autoclear: ['bit 44'],
    });
  });

  it('--json has exactly the documented fields', async () => {
    const dir = scratch.subdir();
    const image = createImage(dir, { size: SIZE, secret, encryption: luks });
    takeSnapshot(image, 'first', '1');
    const found = await info(imagePath(image));
    expect(JSON.parse(expectQcow2fs(['info', '--json', imagePath(image)]))).to.deep.equal(found);
    expect(Object.keys(found)).to.have.members([
      ...[
        'schema',
        'image',
        'version',
        'virtualSize',
        'fileSize',
        'diskUsage',
        'clusterSize',
        'compressionType',
      ],
      ...['refcountBits', 'header', 'features', 'encryption', 'backingFile', 'backingFormat', 'dataFile'],
      ...['snapshots', 'bitmaps', 'allocation'],
    ]);
    expect(Object.keys(found.header)).to.have.members([
      ...['headerLength', 'l1Size', 'l1TableOffset', 'refcountTableOffset', 'refcountTableClusters'],
      'unknownExtensions',
    ]);
    expect(Object.keys(found.encryption ?? {})).to.have.members(['method', 'luks']);
    expect(Object.keys(found.encryption?.luks ?? {})).to.have.members([
      ...[
        'version',
        'cipher',
        'keyBits',
        'mode',
        'ivGenerator',
        'ivHash',
        'hash',
        'uuid',
        'digestIterations',
      ],
      'keySlots',
    ]);
    expect(Object.keys(found.encryption?.luks?.keySlots[0] ?? {})).to.have.members([
      ...['slot', 'active', 'iterations', 'stripes'],
    ]);
    expect(Object.keys(found.snapshots[0] ?? {})).to.have.members([
      'id',
      'name',
      'date',
      'diskSize',
      'vmStateSize',
    ]);
    expect(Object.keys(found.allocation ?? {})).to.have.members([
      'data',
      'compressed',
      'zero',
      'unallocated',
      'damaged',
    ]);
  });

  it('counts the disk by the way it is stored', async () => {
    const image = createImage(scratch.subdir(), { size: SIZE });
    writeSteps(image, 1, [
      { do: 'compressed', offset: 0, length: 128 * KiB },
      { do: 'data', offset: MiB, length: 256 * KiB },
      { do: 'zero-unmap', offset: 2 * MiB, length: 64 * KiB },
    ]);
    expect((await info(imagePath(image))).allocation).to.deep.equal({
      compressed: 128 * KiB,
      data: 256 * KiB,
      zero: 64 * KiB,
      unallocated: SIZE - 448 * KiB,
      damaged: 0,
    });
  });

  it('opens no file that the image names: FIFOs do not hold it up, missing files do not stop it', async () => {
    const dir = scratch.subdir();
    const backing = { file: 'pipe', format: 'qcow2' } as const;
    const options = ['data_file=data.raw'];
    const image = imagePath(createImage(dir, { size: SIZE, backing, options }));
    fs.rmSync(path.join(dir, 'data.raw'));
    for (const make of [
      () => {},
      () => void tool('mkfifo', path.join(dir, 'pipe'), path.join(dir, 'data.raw')),
    ]) {
      make();
      expect(await info(image)).to.include({
        backingFile: 'pipe',
        backingFormat: 'qcow2',
        dataFile: 'data.raw',
      });
      expect(await expectInProcess(['info', image])).to.match(/^backing file: +pipe \(qcow2\)$/m);
    }
  });

  it('shows a json: backing name as it is written', async () => {
    const name = 'json:{"driver":"nbd","host":"localhost"}';
    const dir = scratch.subdir();
    qemuImg(dir, ['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', 'image.qcow2', '1M']);
    expect((await info(path.join(dir, 'image.qcow2'))).backingFile).to.equal(name);
  });

  it('does not let names write on the terminal', async () => {
    const evil = (what: string): string => `${what}\x1b[31m\r\nfake: line\x9b`;
    const image = createImage(scratch.subdir(), {
      size: SIZE,
    });
    takeSnapshot(image, evil('snapshot'), '1');
    addBitmap(image, evil('bitmap'));
    qemuImg(image.dir, ['rebase', '-u', '-b', evil('base'), '-F', 'raw', image.name]);
    addFeatureName(imagePath(image), 'compatible', 40, evil('feature'));
    setFeatureBit(imagePath(image), 'compatibleFeatures', 40);
    const text = await expectInProcess(['info', imagePath(image)]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not reach a terminal
    expect(text).to.not.match(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
    expect(text).to.not.match(/^fake/m);
    for (const what of ['base', 'snapshot', 'bitmap', 'feature'])
      expect(text).to.contain(`${what}\\u001b[31m`);
  });

  it('shows many names, one of which is as long as can be: all of them, in little more than their bytes', async () => {
    const names = Array.from({ length: 3000 }, (_, index) => `name-${index}`);
    const long = '\x01'.repeat(65_535);
    const image = imagePath(createImage(scratch.subdir(), { size: SIZE }));
    addSnapshots(image, [...names, long]);
    addBitmaps(image, [...names, long]);
    const text = await expectInProcess(['info', image]);
    expect(text.length).to.be.below(2 * MiB);
    for (const name of ['name-0 ', 'name-2999 ', `${'\\u0001'.repeat(100)}...`]) {
      expect(text.split(name), name).to.have.length(3);
    }
    const found = await info(image);
    for (const list of [found.snapshots, found.bitmaps]) {
      expect(list.map(({ name }) => name)).to.deep.equal([...names, long]);
    }
  });

  it('refuses what is no image, in one line', async () => {
    for (const [file, status] of [
      ['/dev/null', 3],
      [scratch.path('missing'), 3],
      [secret.file, 4],
    ] as const) {
      const outcome = await runInProcess(['info', file]);
      expect(outcome.stderr).to.match(/^qcow2fs: [^\n]+\n$/);
      expect(outcome.stdout).to.equal('');
      expect(outcome.status).to.equal(status);
    }
  });
});
