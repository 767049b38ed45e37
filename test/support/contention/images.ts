/** Small images of every kind that allocates, copies or shares clusters in a way of its own. */
import path from 'node:path';
import {
  convertToRaw,
  createImage,
  createRaw,
  type Image,
  type ImageSpec,
  KiB,
  MiB,
  type Step,
  type TakenSnapshot,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../images.js';
import { diskSize, type Layout } from './layout.js';

export interface ContendedImage {
  readonly image: Image;
  readonly layout: Layout;
  /** A raw file with what the disk holds first. */
  readonly initial: string;
  /** An internal snapshot that nothing may change. */
  readonly snapshot: TakenSnapshot | undefined;
}

export interface ContendedVariant {
  readonly name: string;
  /** Times as many operations as others take in the same time. */
  readonly speed: number;
  /** In an empty directory, with the reference tools. */
  readonly build: (dir: string) => ContendedImage;
}

interface Options {
  readonly unit?: number;
  readonly speed?: number;
  /** Tools of its own for what the disk holds first; data, holes and zeros unless told. */
  readonly fill?: (image: Image, size: number, clusterSize: number) => TakenSnapshot | undefined;
  readonly encrypted?: boolean;
  readonly backing?: boolean;
  /** Bytes of the part that is seldom written. */
  readonly calm?: number;
}

const BLOCK = 4 * KiB;

function variant(name: string, spec: ImageSpec, options: Options = {}): ContendedVariant {
  const { unit = BLOCK, speed = 1, fill = someData, encrypted = false, backing = false, calm = 0 } = options;
  const build = (dir: string): ContendedImage => {
    const clusterSize = spec.clusterSize ?? 64 * KiB;
    const layout = { clusterSize, unit, encrypted, calm };
    const size = diskSize(layout);
    // Shorter than the disk, and its last sector is none.
    if (backing) createRaw(dir, 'base.raw', size - 70 * KiB - 100, 7);
    const image = createImage(dir, {
      ...spec,
      size,
      ...(backing ? { backing: { file: 'base.raw', format: 'raw' } } : {}),
      ...(encrypted
        ? {
            secret: writeSecret(dir, 'open sesame'),
            encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'],
          }
        : {}),
    });
    const snapshot = fill(image, size, clusterSize);
    return { image, layout, initial: convertToRaw(image, 'initial.raw'), snapshot };
  };
  return { name, speed, build };
}

/** Half of it data, half of that erased again, zeros with and without clusters. */
function someData(image: Image, size: number): undefined {
  const quarter = Math.floor(size / 4 / KiB) * KiB;
  const steps: Step[] = [
    { do: 'data', offset: quarter, length: 2 * quarter },
    { do: 'discard', offset: 2 * quarter, length: quarter / 2 },
    { do: 'zero', offset: 2 * quarter + quarter / 2, length: quarter / 4 },
  ];
  writeSteps(image, 1, steps);
}

/** All of it compressed, several clusters in one of the host's. */
function compressed(image: Image, size: number, clusterSize: number): undefined {
  const length = size - (size % clusterSize);
  writeSteps(image, 1, [{ do: 'compressed', offset: 0, length }]);
}

/** Compressed and plain clusters, most of them shared with a snapshot, and so are the L2 tables. */
function shared(image: Image, size: number, clusterSize: number): TakenSnapshot {
  const eighth = Math.floor(size / 8 / clusterSize) * clusterSize;
  compressed(image, size, clusterSize);
  writeSteps(image, 2, [{ do: 'data', offset: eighth, length: 2 * eighth }]);
  const snapshot = takeSnapshot(image, 'kept', '1');
  writeSteps(image, 3, [{ do: 'data', offset: 2 * eighth, length: clusterSize }]);
  return snapshot;
}

const EXTENDED = 'extended_l2=on';
/** Too much for a small cache of inflated clusters. */
const CALM = 4 * MiB;
const LUKS = { encrypted: true, speed: 0.5 };

export const contendedVariants: readonly ContendedVariant[] = [
  variant('v3, 64 KiB clusters', {}),
  variant('v3, 512 B clusters', { clusterSize: 512 }, { unit: 512 }),
  variant('v2, 4 KiB clusters, a backing file', { version: 2, clusterSize: BLOCK }, { backing: true }),
  variant('v3, 128 KiB clusters, extended L2', { clusterSize: 128 * KiB, options: [EXTENDED] }),
  variant(
    'v3, 16 KiB clusters, extended L2, a backing file',
    { clusterSize: 16 * KiB, options: [EXTENDED] },
    { unit: 512, backing: true },
  ),
  variant('LUKS, 4 KiB clusters', { clusterSize: BLOCK }, LUKS),
  variant('LUKS, 64 KiB clusters, a backing file', {}, { ...LUKS, backing: true }),
  variant(
    'v3, 16 KiB clusters, compressed, a snapshot',
    { clusterSize: 16 * KiB },
    { fill: shared, calm: CALM },
  ),
  variant('v3, 4 KiB clusters, a snapshot', { clusterSize: BLOCK }, { fill: shared, calm: CALM }),
  variant(
    'v3, 64 KiB clusters, zstd',
    { options: ['compression_type=zstd'] },
    { fill: compressed, calm: CALM },
  ),
  variant('v3, 64 KiB clusters, a data file', { options: ['data_file=data.raw'] }),
  variant('v3, 4 KiB clusters, a raw data file', {
    clusterSize: BLOCK,
    options: ['data_file=data.raw', 'data_file_raw=on'],
  }),
];

/** Where tests keep an image's files: every file beside it. */
export function fileOf({ image }: ContendedImage): string {
  return path.join(image.dir, image.name);
}
