/** Small images of every kind whose writes are ordered differently, for cutting the power and failing calls. */
import path from 'node:path';
import {
  createImage,
  createRaw,
  type Image,
  type ImageSpec,
  KiB,
  MiB,
  type Step,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../images.js';

export interface CrashImage {
  readonly image: Image;
  /** The files that a guest's writes change: the image, and its data file. */
  readonly files: readonly string[];
  readonly clusterSize: number;
  /** Bytes that the disk may grow by at a time; 0 for a fixed size. */
  readonly growth: number;
  /** An internal snapshot that nothing may change. */
  readonly snapshot?: string;
  /** So little is free that both the L1 table and the refcount table move. */
  readonly movesTables?: boolean;
  /** Operations that show what is special about it, for images that take long. */
  readonly operations?: number;
}

export interface CrashVariant {
  readonly name: string;
  /** In an empty directory, with the reference tools. */
  readonly build: (dir: string) => CrashImage;
}

interface Options {
  readonly growth?: number;
  readonly steps?: readonly Step[];
  readonly files?: readonly string[];
  readonly movesTables?: boolean;
  readonly operations?: number;
}

const QUARTER = 64 * KiB;
const SIZE = 4 * QUARTER;

/** Data, holes and zeros. */
const someData: readonly Step[] = [
  { do: 'data', offset: 0, length: QUARTER },
  { do: 'data', offset: 2 * QUARTER, length: QUARTER / 2 },
  { do: 'discard', offset: QUARTER / 4, length: QUARTER / 4 },
];

function variant(name: string, spec: ImageSpec, options: Options = {}): CrashVariant {
  return { name, build: (dir) => finish(createImage(dir, { size: SIZE, ...spec }), spec, options) };
}

function finish(image: Image, spec: ImageSpec, options: Options): CrashImage {
  const { growth = 0, steps = someData, files = [], movesTables = false, operations } = options;
  writeSteps(image, 1, steps);
  return {
    image,
    files: [path.join(image.dir, image.name), ...files.map((file) => path.join(image.dir, file))],
    clusterSize: spec.clusterSize ?? 64 * KiB,
    growth,
    movesTables,
    ...(operations === undefined ? {} : { operations }),
  };
}

/** Where the disk may grow, the backing file has something that must not come to light. */
function overlay(name: string, spec: ImageSpec, options: Options = {}): CrashVariant {
  return {
    name,
    build: (dir) => {
      createRaw(dir, 'base.raw', options.growth === undefined ? SIZE - 3 * KiB : SIZE + QUARTER, 7);
      const image = createImage(dir, { size: SIZE, ...spec, backing: { file: 'base.raw', format: 'raw' } });
      return finish(image, spec, options);
    },
  };
}

/** Most clusters are shared with a snapshot, the L2 tables too. */
function withSnapshot(name: string, spec: ImageSpec): CrashVariant {
  return {
    name,
    build: (dir) => {
      const image = createImage(dir, { size: SIZE, ...spec });
      writeSteps(image, 1, [{ do: 'data', offset: 0, length: 3 * QUARTER }]);
      takeSnapshot(image, 'kept', '1');
      return { ...finish(image, spec, {}), snapshot: 'kept' };
    },
  };
}

function encrypted(
  name: string,
  encryption: readonly string[],
  spec: ImageSpec,
  operations?: number,
): CrashVariant {
  return {
    name,
    build: (dir) => {
      const secret = writeSecret(dir, 'open sesame');
      const whole = { size: SIZE, ...spec, secret, encryption };
      return finish(createImage(dir, whole), whole, operations === undefined ? {} : { operations });
    },
  };
}

const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];
const EXTENDED = ['extended_l2=on'];

/** Four clusters more, and the refcount table is full. */
const nearlyFull: readonly Step[] = [{ do: 'data', offset: 0, length: 2 * MiB - 66 * KiB }];

export const crashVariants: readonly CrashVariant[] = [
  variant('v3, 64 KiB clusters', { size: MiB }, { growth: QUARTER + 512 }),
  variant('v3, 4 KiB clusters', { clusterSize: 4 * KiB }, { growth: 5 * KiB }),
  variant('v2, 4 KiB clusters', { version: 2, clusterSize: 4 * KiB }, { growth: 5 * KiB }),
  variant('v3, 512 B clusters', { clusterSize: 512 }),
  variant(
    'v3, 512 B clusters, 64-bit refcounts, tables that must grow',
    { size: 2 * MiB - 8 * KiB, clusterSize: 512, options: ['refcount_bits=64'] },
    { growth: 48 * KiB, steps: nearlyFull, movesTables: true, operations: 40 },
  ),
  variant('v3, 512 B clusters, 1-bit refcounts', { clusterSize: 512, options: ['refcount_bits=1'] }),
  variant('v3, 4 KiB clusters, 64-bit refcounts', { clusterSize: 4 * KiB, options: ['refcount_bits=64'] }),
  withSnapshot('v3, 4 KiB clusters, a snapshot', { clusterSize: 4 * KiB }),
  withSnapshot('v2, 512 B clusters, a snapshot', { version: 2, clusterSize: 512 }),
  variant(
    'v3, 4 KiB clusters, compressed',
    { clusterSize: 4 * KiB },
    { steps: [{ do: 'compressed', offset: 0, length: 3 * QUARTER }] },
  ),
  overlay('v3, 4 KiB clusters, a backing file', { clusterSize: 4 * KiB }, { growth: 5 * KiB }),
  overlay('v2, 64 KiB clusters, a backing file', { version: 2 }),
  variant('v3, 16 KiB clusters, extended L2', { clusterSize: 16 * KiB, options: EXTENDED }),
  overlay('v3, 16 KiB clusters, extended L2, a backing file', { clusterSize: 16 * KiB, options: EXTENDED }),
  withSnapshot('v3, 16 KiB clusters, extended L2, a snapshot', {
    clusterSize: 16 * KiB,
    options: EXTENDED,
  }),
  variant(
    'v3, 4 KiB clusters, a data file',
    { clusterSize: 4 * KiB, options: ['data_file=data.raw'] },
    { files: ['data.raw'] },
  ),
  variant(
    'v3, a raw data file',
    { options: ['data_file=data.raw', 'data_file_raw=on'] },
    { files: ['data.raw'], growth: QUARTER },
  ),
  encrypted('v3, 4 KiB clusters, LUKS', LUKS, { clusterSize: 4 * KiB }, 24),
  encrypted('v2, 4 KiB clusters, AES', ['encrypt.format=aes'], { version: 2, clusterSize: 4 * KiB }),
];
