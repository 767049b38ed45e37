/** Unencrypted images without a backing file. */

import { patchField, readField } from './damage.js';
import {
  compressedGuest,
  compressedSubclusterGuest,
  incompressibleGuest,
  noGuest,
  richGuest,
  subclusterGuest,
} from './guests.js';
import {
  addBitmap,
  checkSnapshot,
  createImage,
  type Extent,
  GiB,
  imagePath,
  KiB,
  MiB,
  qemuImg,
  resize,
  type Step,
  TiB,
  takeSnapshot,
  writeAndCrash,
  writeSteps,
} from './images.js';
import { SECTOR_SIZE } from './pattern.js';
import { built, builtSnapshot, filled, single, sizeName, type Variant } from './variant.js';

const CLUSTER_SIZES = [
  ...[512, KiB, 2 * KiB, 4 * KiB, 8 * KiB, 16 * KiB, 32 * KiB],
  ...[64 * KiB, 128 * KiB, 256 * KiB, 512 * KiB, MiB, 2 * MiB],
];

const versionsAndClusterSizes: readonly Variant[] = [
  ...CLUSTER_SIZES.map((clusterSize) => single(`v3, ${sizeName(clusterSize)} clusters`, { clusterSize })),
  ...[512, 4 * KiB, 64 * KiB, 512 * KiB, 2 * MiB].map((clusterSize) =>
    single(`v2, ${sizeName(clusterSize)} clusters`, { version: 2, clusterSize }),
  ),
  ...[1, 2, 4, 8, 32, 64].map((bits) =>
    single(`v3, ${bits}-bit refcounts`, { options: [`refcount_bits=${bits}`] }),
  ),
  single('v3, 512 B clusters, 1-bit refcounts', { clusterSize: 512, options: ['refcount_bits=1'] }),
  single('v3, lazy refcounts, closed cleanly', { options: ['lazy_refcounts=on'] }),
];

const compression: readonly Variant[] = [
  ...[512, 4 * KiB, 64 * KiB, 2 * MiB].map((clusterSize) =>
    single(`v3, ${sizeName(clusterSize)} clusters, zlib compressed`, { clusterSize }, compressedGuest),
  ),
  ...[512, 4 * KiB, 64 * KiB, 2 * MiB].map((clusterSize) =>
    single(`v3, ${sizeName(clusterSize)} clusters, zstd compressed`, zstd(clusterSize), compressedGuest),
  ),
  single('v2, 64 KiB clusters, zlib compressed', { version: 2 }, compressedGuest),
  single('v2, 1 KiB clusters, zlib compressed', { version: 2, clusterSize: KiB }, compressedGuest),
  single('v3, incompressible data written compressed, zlib', {}, incompressibleGuest),
  single('v3, incompressible data written compressed, zstd', zstd(64 * KiB), incompressibleGuest),
  single(
    'v3, zlib compressed, size no multiple of the cluster',
    { size: MiB + 5 * SECTOR_SIZE },
    compressedGuest,
  ),
  single(
    'v3, zstd compressed, size no multiple of the cluster',
    { ...zstd(64 * KiB), size: MiB + 5 * SECTOR_SIZE },
    compressedGuest,
  ),
  converted('v3, a whole disk packed by convert -c, zlib', ['-c']),
  converted('v3, a whole disk packed by convert -c, zstd', ['-c', '-o', 'compression_type=zstd']),
  converted('v2, a whole disk packed by convert -c', ['-c', '-o', 'compat=0.10']),
];

function zstd(clusterSize: number) {
  return { clusterSize, options: ['compression_type=zstd'] };
}

/** As people make them: a disk converted in one go. */
function converted(name: string, options: readonly string[]): Variant {
  return {
    name,
    build: (dir) => {
      const origin = filled(dir, { name: 'origin.qcow2' }, 1);
      qemuImg(dir, ['convert', ...options, '-O', 'qcow2', origin.name, 'image.qcow2']);
      return built({ dir, name: 'image.qcow2', openOptions: [] });
    },
  };
}

const EXTENDED = ['extended_l2=on'];

const extendedL2: readonly Variant[] = [
  ...[16 * KiB, 64 * KiB, 128 * KiB, 2 * MiB].map((clusterSize) =>
    single(
      `v3, ${sizeName(clusterSize)} clusters, extended L2`,
      { clusterSize, options: EXTENDED },
      subclusterGuest,
    ),
  ),
  ...[16 * KiB, 128 * KiB].map((clusterSize) =>
    single(
      `v3, ${sizeName(clusterSize)} clusters, extended L2 with zlib compressed clusters`,
      { clusterSize, options: EXTENDED },
      compressedSubclusterGuest,
    ),
  ),
  single(
    'v3, 64 KiB clusters, extended L2 with zstd compressed clusters',
    { options: [...EXTENDED, 'compression_type=zstd'] },
    compressedSubclusterGuest,
  ),
  single(
    'v3, extended L2, size no multiple of the subcluster',
    { size: 2 * MiB + 3 * SECTOR_SIZE, options: EXTENDED },
    subclusterGuest,
  ),
  single(
    'v3, extended L2, preallocated metadata',
    { options: [...EXTENDED, 'preallocation=metadata'] },
    subclusterGuest,
  ),
];

const dataFiles: readonly Variant[] = [
  single('v3, external data file', { options: ['data_file=data.raw'] }),
  single('v3, raw external data file', { options: ['data_file=data.raw', 'data_file_raw=on'] }),
  single('v3, external data file, 4 KiB clusters', { clusterSize: 4 * KiB, options: ['data_file=data.raw'] }),
  single('v3, external data file, preallocated metadata', {
    options: ['data_file=data.raw', 'preallocation=metadata'],
  }),
  single(
    'v3, external data file, extended L2',
    { options: ['data_file=data.raw', ...EXTENDED] },
    subclusterGuest,
  ),
  single(
    'v3, raw external data file, extended L2',
    { options: ['data_file=data.raw', 'data_file_raw=on', ...EXTENDED] },
    subclusterGuest,
  ),
  {
    name: 'v3, external data file by absolute path',
    build: (dir) => built(filled(dir, { options: [`data_file=${dir}/data.raw`] }, 1)),
  },
];

const preallocation: readonly Variant[] = [
  ...['metadata', 'falloc', 'full'].map((mode) =>
    single(`v3, preallocation=${mode}`, { options: [`preallocation=${mode}`] }),
  ),
  single('v2, preallocation=metadata', { version: 2, options: ['preallocation=metadata'] }),
  single('v3, preallocation=metadata, nothing written', { options: ['preallocation=metadata'] }, noGuest),
];

const sizes: readonly Variant[] = [
  single('v3, 1 MiB + 512 bytes', { size: MiB + SECTOR_SIZE }),
  single('v3, 2 MiB clusters, 3 MiB + 512 bytes', { size: 3 * MiB + SECTOR_SIZE, clusterSize: 2 * MiB }),
  single('v3, one sector', { size: SECTOR_SIZE }),
  single('v3, nothing written', { size: 4 * MiB }, noGuest),
  single('v3, size 0', { size: 0 }, noGuest),
  {
    name: 'v3, header size of 1 MiB + 300 bytes, floored',
    build: (dir) => {
      const image = filled(dir, { size: MiB + SECTOR_SIZE }, 1);
      patchField(imagePath(image), 'size', MiB + 300);
      return built(image);
    },
  },
  huge('v3, 1 TiB', TiB, 64 * KiB),
  huge('v2, 1 TiB', TiB, 64 * KiB, ['compat=0.10']),
  huge('v3, 8 TiB, 2 MiB clusters', 8 * TiB, 2 * MiB),
  huge('v3, 1 TiB, extended L2', TiB, 128 * KiB, EXTENDED),
  huge('v3, 8 GiB, 512 B clusters', 8 * GiB, 512),
];

/** Data around a few far places; probes there, beside them, and at both ends. */
function huge(name: string, size: number, clusterSize: number, options: readonly string[] = []): Variant {
  return {
    name,
    build: (dir) => {
      const version2 = options.includes('compat=0.10');
      const image = createImage(dir, {
        size: size - 3 * SECTOR_SIZE,
        clusterSize,
        ...(version2 ? { version: 2 } : { options }),
      });
      const places = [0, size / 8 - SECTOR_SIZE, size / 2 - 64 * KiB, size / 2 + GiB, size - 256 * KiB];
      const steps: Step[] = places.map((offset) => ({ do: 'data', offset, length: 128 * KiB }));
      const last = size - 67 * SECTOR_SIZE;
      writeSteps(image, 1, [...steps, { do: 'data', offset: last, length: 64 * SECTOR_SIZE }]);
      const around = (offset: number): Extent => {
        const start = Math.max(0, offset - 64 * KiB);
        return { offset: start, length: Math.min(512 * KiB, size - 3 * SECTOR_SIZE - start) };
      };
      const probes = [...places, last, size / 4, size / 3 - ((size / 3) % SECTOR_SIZE)].map(around);
      return built(image, { probes });
    },
  };
}

const snapshots: readonly Variant[] = [
  ...(['name', 'id'] as const).flatMap((by) =>
    ([2, 3] as const).map((version) =>
      snapshotOf(`v${version}, first of three snapshots by ${by}`, version, 0, by),
    ),
  ),
  snapshotOf('v3, second of three snapshots by name', 3, 1, 'name'),
  snapshotOf('v3, last of three snapshots by id', 3, 2, 'id'),
  {
    name: 'v3, the disk itself beside three snapshots',
    build: (dir) => built(withSnapshots(dir, 3).image),
  },
  snapshotThenResized('v3, snapshot smaller than the disk today', 6 * MiB),
  snapshotThenResized('v3, snapshot larger than the disk today', MiB + SECTOR_SIZE),
  {
    name: 'v3, snapshot of compressed clusters, overwritten since',
    build: (dir) => {
      const image = filled(dir, {}, 1, compressedGuest);
      const taken = takeSnapshot(image, 'packed', '1');
      writeSteps(image, 2, richGuest(2 * MiB, 64 * KiB));
      checkSnapshot(image, taken);
      return builtSnapshot(image, taken, 'name');
    },
  },
  {
    name: 'v3, snapshot of an extended L2 image, overwritten since',
    build: (dir) => {
      const image = filled(dir, { options: EXTENDED }, 1, subclusterGuest);
      const taken = takeSnapshot(image, 'before', '1');
      writeSteps(image, 2, richGuest(2 * MiB, 64 * KiB));
      checkSnapshot(image, taken);
      return builtSnapshot(image, taken, 'name');
    },
  },
];

function withSnapshots(dir: string, version: 2 | 3) {
  const image = filled(dir, { version, size: 2 * MiB, clusterSize: 4 * KiB }, 1);
  const taken = [takeSnapshot(image, 'fresh', '1')];
  // Compressed clusters only where nothing is yet: QEMU refuses to put them over others.
  writeSteps(image, 2, [
    { do: 'compressed', offset: MiB, length: 128 * KiB },
    { do: 'data', offset: MiB + 9 * SECTOR_SIZE, length: 40 * KiB },
    { do: 'discard', offset: 0, length: 24 * KiB },
    { do: 'zero', offset: 200 * KiB, length: 20 * KiB },
  ]);
  taken.push(takeSnapshot(image, 'after the update', '2'));
  writeSteps(image, 3, [{ do: 'data', offset: 5 * SECTOR_SIZE, length: MiB }]);
  taken.push(takeSnapshot(image, 'größer', '3'));
  writeSteps(image, 4, [
    { do: 'data', offset: 3 * SECTOR_SIZE, length: 300 * KiB },
    { do: 'zero-unmap', offset: MiB + 64 * KiB, length: 128 * KiB },
  ]);
  for (const snapshot of taken) checkSnapshot(image, snapshot);
  return { image, taken };
}

function snapshotOf(name: string, version: 2 | 3, index: number, by: 'name' | 'id'): Variant {
  return {
    name,
    build: (dir) => {
      const { image, taken } = withSnapshots(dir, version);
      return builtSnapshot(image, taken[index]!, by);
    },
  };
}

function snapshotThenResized(name: string, size: number): Variant {
  return {
    name,
    build: (dir) => {
      const image = filled(dir, { size: 3 * MiB }, 1);
      const taken = takeSnapshot(image, 'before the resize', '1');
      resize(image, size);
      writeSteps(image, 2, [{ do: 'data', offset: SECTOR_SIZE, length: size - SECTOR_SIZE }]);
      checkSnapshot(image, taken);
      return { ...builtSnapshot(image, taken, 'name'), resizeSensitive: true };
    },
  };
}

/** A rich image whose 64-bit feature mask has one bit more. */
function withFeatureBit(
  name: string,
  field: 'incompatibleFeatures' | 'compatibleFeatures' | 'autoclearFeatures',
  bit: number,
): Variant {
  return {
    name,
    build: (dir) => {
      const image = filled(dir, {}, 1);
      const path = imagePath(image);
      patchField(path, field, readField(path, field) | (1n << BigInt(bit)));
      return built(image);
    },
  };
}

const marks: readonly Variant[] = [
  withFeatureBit('v3, marked dirty', 'incompatibleFeatures', 0),
  withFeatureBit('v3, marked corrupt', 'incompatibleFeatures', 1),
  withFeatureBit('v3, unknown compatible feature', 'compatibleFeatures', 37),
  withFeatureBit('v3, unknown autoclear feature', 'autoclearFeatures', 63),
  {
    name: 'v3, lazy refcounts, the writer died',
    build: (dir) => {
      const image = filled(dir, { options: ['lazy_refcounts=on'] }, 1);
      writeAndCrash(image, 2, { do: 'data', offset: 7 * 64 * KiB + SECTOR_SIZE, length: 900 * KiB });
      return built(image, { unclean: true });
    },
  },
  {
    name: 'v3, persistent bitmaps',
    build: (dir) => {
      const image = filled(dir, {}, 1);
      for (const bitmap of ['backup-1', 'backup-2']) addBitmap(image, bitmap);
      writeSteps(image, 2, [{ do: 'data', offset: MiB + SECTOR_SIZE, length: 100 * KiB }]);
      return built(image);
    },
  },
];

export const plainVariants: readonly Variant[] = [
  ...versionsAndClusterSizes,
  ...compression,
  ...extendedL2,
  ...dataFiles,
  ...preallocation,
  ...sizes,
  ...snapshots,
  ...marks,
];
