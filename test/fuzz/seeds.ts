/** Small images of every kind, made by QEMU: what the fuzzer starts from, and what they must read as. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { fileLength, patchNumber, readField, readNumber } from '../support/damage.js';
import { addSnapshots } from '../support/directories.js';
import {
  addBitmap,
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  qemuIo,
  type Step,
  takeSnapshot,
  writeAndCrash,
  writeSecret,
  writeSteps,
} from '../support/images.js';

export interface Seed {
  readonly name: string;
  /** Absolute; holds the image as image.qcow2, and what it names. */
  readonly dir: string;
  readonly secret: Uint8Array | undefined;
  /** The files that are damaged, by name. */
  readonly contents: Readonly<Record<string, Buffer>>;
  /** What it names, and what is there to be named: of these, only a data file may ever change. */
  readonly companions: Readonly<Record<string, Buffer>>;
  /** What QEMU reads; undefined for an image that must be repaired first. */
  readonly expected: Buffer | undefined;
}

export const IMAGE = 'image.qcow2';
/** In the one file that nothing may be read from; no seed contains it. */
export const CANARY = 'what-lies-outside-the-directory.';
/** The files as they were made: those beside them are what is damaged. */
const PRISTINE = 'pristine';
const SECRET = 'fuzz';
const SIZE = 2 * MiB;
const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10', 'encrypt.hash-alg=sha256'];

/** Data, zeros and holes. */
const guest = (unit: number): readonly Step[] => [
  { do: 'data', offset: 0, length: 2 * unit },
  { do: 'data', offset: 300 * KiB, length: unit + 512 },
  { do: 'zero', offset: 5 * unit, length: unit },
  { do: 'data', offset: MiB + 512, length: 3 * unit },
];
const compressedGuest = (unit: number): readonly Step[] => [
  { do: 'compressed', offset: 0, length: 4 * unit },
  { do: 'compressed', offset: MiB, length: 2 * unit },
  { do: 'data', offset: MiB + 512 * KiB, length: unit },
];

type Build = (dir: string) => Image;

function single(spec: ImageSpec, steps: (unit: number) => readonly Step[] = guest): Build {
  return (dir) => {
    const image = createImage(dir, { size: SIZE, ...spec });
    writeSteps(image, 1, steps(spec.clusterSize ?? 64 * KiB));
    return image;
  };
}

function encrypted(encryption: readonly string[], spec: ImageSpec = {}): Build {
  return (dir) => single({ ...spec, encryption, secret: writeSecret(dir, SECRET) })(dir);
}

function withSnapshots(spec: ImageSpec): Build {
  return (dir) => {
    const image = single(spec)(dir);
    takeSnapshot(image, 'first', '1');
    qemuIo(image, ['write -P 3 0 8k', 'write -P 4 1536k 8k']);
    takeSnapshot(image, 'second', '2');
    qemuIo(image, ['write -P 5 4k 8k']);
    return image;
  };
}

function withBitmaps(dir: string): Image {
  const image = single({ clusterSize: 4 * KiB })(dir);
  for (const name of ['one', 'two']) addBitmap(image, name);
  qemuIo(image, ['write -P 3 0 8k', 'write -P 4 1m 64k']);
  return image;
}

/** Snapshots of which one has a name as long as can be; more of them are a matter of one field and a larger file. */
function withLongNames(dir: string): Image {
  const image = single({ clusterSize: 4 * KiB })(dir);
  const path = imagePath(image);
  addSnapshots(path, ['n'.repeat(65_535), 'short', '\x1b[2J']);
  // Counted here: a repair would put new refcount blocks behind the table.
  const block = Number(readNumber(path, Number(readField(path, 'refcountTableOffset')), 8));
  const end = Math.ceil(fileLength(path) / (4 * KiB));
  for (let cluster = Number(readField(path, 'snapshotsOffset')) / (4 * KiB); cluster < end; cluster++) {
    patchNumber(path, block + 2 * cluster, 2, 1);
  }
  return image;
}

function chain(dir: string): Image {
  createRaw(dir, 'base.raw', MiB, 3);
  const base = createImage(dir, {
    name: 'base.qcow2',
    size: SIZE,
    clusterSize: 4 * KiB,
    backing: { file: 'base.raw', format: 'raw' },
  });
  writeSteps(base, 2, compressedGuest(4 * KiB));
  const backing = { file: 'base.qcow2', format: 'qcow2' } as const;
  return single({ clusterSize: 4 * KiB, backing })(dir);
}

function dirty(dir: string): Image {
  const image = single({ clusterSize: 4 * KiB, options: ['lazy_refcounts=on'] })(dir);
  writeAndCrash(image, 4, { do: 'data', offset: 64 * KiB, length: 32 * KiB });
  return image;
}

const BUILDS: Readonly<Record<string, Build>> = {
  v2: single({ version: 2 }),
  'v3-512': single({ clusterSize: 512, size: MiB + 512 * KiB }),
  'v3-4k': single({ clusterSize: 4 * KiB }),
  'v3-64k': single({}),
  'extended-l2': single({ clusterSize: 16 * KiB, options: ['extended_l2=on'] }),
  zlib: single({ clusterSize: 4 * KiB }, compressedGuest),
  zstd: single({ options: ['compression_type=zstd'] }, compressedGuest),
  'refcount-1': single({ clusterSize: 4 * KiB, options: ['refcount_bits=1'] }),
  'refcount-64': single({ clusterSize: 4 * KiB, options: ['refcount_bits=64'] }),
  snapshots: withSnapshots({ clusterSize: 4 * KiB }),
  'snapshots-v2': withSnapshots({ version: 2, clusterSize: 4 * KiB }),
  bitmaps: withBitmaps,
  'long-names': withLongNames,
  chain,
  'data-file': single({ options: ['data_file=data.raw'] }),
  dirty,
  luks: encrypted(LUKS),
  aes: encrypted(['encrypt.format=aes']),
};

/** Builds them all below `dir`, each with things beside it that must not be reached. */
export function buildSeeds(dir: string): void {
  fs.mkdirSync(join(dir, 'outside'));
  fs.writeFileSync(join(dir, 'outside', 'secret'), CANARY.repeat((64 * KiB) / CANARY.length));
  for (const [name, build] of Object.entries(BUILDS)) {
    const place = join(dir, name);
    fs.mkdirSync(place);
    const image = build(place);
    if (name !== 'dirty') convertToRaw(image);
    const files = fs.readdirSync(place);
    fs.mkdirSync(join(place, PRISTINE));
    for (const file of files) fs.copyFileSync(join(place, file), join(place, PRISTINE, file));
    fs.symlinkSync('../outside/secret', join(place, 'link'));
    fs.symlinkSync('../outside', join(place, 'directory'));
    execFileSync('mkfifo', [join(place, 'fifo')]);
  }
}

/** Makes the files what they were. */
export function restoreSeed({ dir, contents, companions }: Seed): void {
  for (const [name, bytes] of Object.entries({ ...companions, ...contents }))
    fs.writeFileSync(join(dir, name), bytes);
}

export function loadSeeds(dir: string): readonly Seed[] {
  return Object.keys(BUILDS).map((name) => {
    const place = join(dir, name);
    const pristine = join(place, PRISTINE);
    const load = (file: string): Buffer => fs.readFileSync(join(pristine, file));
    const loadAll = (files: readonly string[]): Record<string, Buffer> =>
      Object.fromEntries(files.filter((file) => has(file)).map((file) => [file, load(file)]));
    const has = (file: string): boolean => fs.existsSync(join(pristine, file));
    return {
      name,
      dir: place,
      secret: has('secret') ? load('secret') : undefined,
      contents: loadAll([IMAGE, 'base.qcow2']),
      companions: loadAll(['base.qcow2', 'base.raw', 'data.raw']),
      expected: has('expected.raw') ? load('expected.raw') : undefined,
    };
  });
}
