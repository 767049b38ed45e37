/** Images that QEMU left dirty, each kind of structure among them, and more damage of the kind a crash leaves. */

import {
  hostOffset,
  l1EntryOffset,
  patchBytes,
  patchL2,
  patchNumber,
  readBytes,
  readField,
  readNumber,
  setFeatureBit,
} from './damage.js';
import { compressedGuest, type Guest, overlayGuest, richGuest, subclusterGuest } from './guests.js';
import {
  addBitmap,
  createImage,
  createRaw,
  defaultSize,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  type Step,
  scriptUnit,
  takeSnapshot,
  writeAndCrash,
  writeSecret,
  writeSteps,
} from './images.js';

export interface DirtyImage {
  readonly name: string;
  /** The crash left nothing behind but the mark. */
  readonly unharmed?: boolean;
  /** Makes it in an empty directory. */
  readonly build: (dir: string) => Image;
}

const LAZY = 'lazy_refcounts=on';

/** Data over old and new clusters, which the writer did not live to count. */
function crashStep(clusterSize: number): Step {
  const unit = scriptUnit(clusterSize);
  return { do: 'data', offset: 11 * unit + 512, length: 8 * unit };
}

function crashed(image: Image, clusterSize = 64 * KiB): Image {
  writeAndCrash(image, 9, crashStep(clusterSize));
  return image;
}

function dirty(name: string, spec: ImageSpec, steps: Guest = richGuest): DirtyImage {
  return {
    name,
    build: (dir) => {
      const clusterSize = spec.clusterSize ?? 64 * KiB;
      const image = createImage(dir, { ...spec, options: [...(spec.options ?? []), LAZY] });
      writeSteps(image, 1, steps(spec.size ?? defaultSize(clusterSize), clusterSize));
      return crashed(image, clusterSize);
    },
  };
}

function overBase(name: string, spec: ImageSpec, steps: Guest): DirtyImage {
  const overlay = dirty(name, { ...spec, backing: { file: 'base.raw', format: 'raw' } }, steps);
  return {
    name,
    build: (dir) => {
      createRaw(dir, 'base.raw', 2 * MiB, 5);
      return overlay.build(dir);
    },
  };
}

/** Ten refcount blocks: few enough to repair it hundreds of times. */
export const tiny: DirtyImage = {
  name: 'a disk of 256 KiB',
  build: (dir) => {
    const image = createImage(dir, {
      ...{ size: 256 * KiB, clusterSize: 512, options: ['refcount_bits=64', LAZY] },
    });
    writeSteps(image, 1, [
      { do: 'data', offset: 0, length: 64 * KiB },
      { do: 'zero', offset: 20 * KiB, length: 20 * KiB },
      { do: 'discard', offset: 50 * KiB, length: 10 * KiB },
    ]);
    writeAndCrash(image, 9, { do: 'data', offset: 96 * KiB + 512, length: 100 * KiB });
    return image;
  },
};

export const withSnapshots: DirtyImage = {
  name: 'internal snapshots',
  build: (dir) => {
    const image = createImage(dir, { size: 2 * MiB, clusterSize: 4 * KiB, options: [LAZY] });
    writeSteps(image, 1, richGuest(2 * MiB, 4 * KiB));
    takeSnapshot(image, 'one', '1');
    writeSteps(image, 2, [{ do: 'compressed', offset: MiB, length: 128 * KiB }]);
    takeSnapshot(image, 'two', '2');
    writeSteps(image, 3, [{ do: 'data', offset: 5 * 512, length: 300 * KiB }]);
    return crashed(image, 4 * KiB);
  },
};

const withLongSnapshotTable: DirtyImage = {
  name: 'a snapshot table of several clusters',
  build: (dir) => {
    const image = createImage(dir, { size: 256 * KiB, clusterSize: 512, options: [LAZY] });
    for (const id of ['1', '2', '3', '4', '5']) {
      takeSnapshot(image, id.repeat(200), id);
      writeSteps(image, Number(id), [{ do: 'data', offset: Number(id) * 8 * KiB, length: 16 * KiB }]);
    }
    writeAndCrash(image, 9, { do: 'data', offset: 0, length: 100 * KiB });
    return image;
  },
};

export const withBitmaps: DirtyImage = {
  name: 'persistent bitmaps',
  build: (dir) => {
    const image = createImage(dir, { options: [LAZY] });
    for (const bitmap of ['backup-1', 'backup-2']) addBitmap(image, bitmap);
    writeSteps(image, 1, richGuest(2 * MiB, 64 * KiB));
    return crashed(image);
  },
};

export const withLuks: DirtyImage = {
  name: 'LUKS',
  build: (dir) => {
    const secret = writeSecret(dir, 'secret');
    const encryption = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    const image = createImage(dir, { secret, encryption, options: [LAZY] });
    writeSteps(image, 1, richGuest(2 * MiB, 64 * KiB));
    return crashed(image);
  },
};

export const compressed = dirty('compressed clusters', { clusterSize: 4 * KiB }, compressedGuest);
export const externalData: DirtyImage = {
  ...dirty('an external data file', { options: ['data_file=image.data'] }),
  unharmed: true,
};
export const small = dirty('512-byte clusters and 64-bit refcounts', {
  size: 24 * 64 * KiB,
  clusterSize: 512,
  options: ['refcount_bits=64'],
});

export const dirtyImages: readonly DirtyImage[] = [
  ...[512, 4 * KiB, 2 * MiB].map((clusterSize) => dirty(`clusters of ${clusterSize} bytes`, { clusterSize })),
  ...[1, 2, 4, 8, 16, 32, 64].map((bits) =>
    dirty(`refcounts of ${bits} bits`, { options: [`refcount_bits=${bits}`] }),
  ),
  dirty('refcounts of 1 bit in clusters of 512 bytes', { clusterSize: 512, options: ['refcount_bits=1'] }),
  tiny,
  small,
  withSnapshots,
  withLongSnapshotTable,
  withBitmaps,
  withLuks,
  compressed,
  dirty('zstd', { options: ['compression_type=zstd'] }, compressedGuest),
  externalData,
  {
    name: 'preallocated metadata',
    unharmed: true,
    build: (dir) => {
      const image = createImage(dir, { options: ['preallocation=metadata'] });
      writeSteps(image, 1, richGuest(2 * MiB, 64 * KiB));
      setFeatureBit(imagePath(image), 'incompatibleFeatures', 0);
      return image;
    },
  },
  overBase('a backing file', {}, overlayGuest),
  // Only there do zero subclusters differ from unallocated ones.
  overBase('extended L2 entries over a backing file', { options: ['extended_l2=on'] }, subclusterGuest),
];

/** Host offsets of the refcount blocks, by their index in the table. */
export function refcountBlocks(path: string): { index: number; offset: number; entry: number }[] {
  const table = Number(readField(path, 'refcountTableOffset'));
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const bytes = readBytes(path, table, Number(readField(path, 'refcountTableClusters')) * clusterSize);
  return Array.from({ length: bytes.length / 8 }, (_, index) => ({
    index,
    offset: Number(bytes.readBigUInt64BE(8 * index)),
    entry: table + 8 * index,
  })).filter(({ offset }) => offset !== 0);
}

/** Flips the COPIED flag of every active L1 and L2 entry that has an offset. */
export function flipCopied(path: string): void {
  const COPIED = 1n << 63n;
  const OFFSET = 0x00fffffffffffe00n;
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const extended = (readField(path, 'incompatibleFeatures') & 16n) !== 0n;
  for (let index = 0; index < Number(readField(path, 'l1Size')); index++) {
    const entryAt = l1EntryOffset(path, index);
    const entry = readNumber(path, entryAt, 8);
    if ((entry & OFFSET) === 0n) continue;
    patchNumber(path, entryAt, 8, entry ^ COPIED);
    const table = Number(entry & OFFSET);
    for (let at = table; at < table + clusterSize; at += extended ? 16 : 8) {
      const mapped = readNumber(path, at, 8);
      if ((mapped & OFFSET) !== 0n) patchNumber(path, at, 8, mapped ^ COPIED);
    }
  }
}

/** Moves the first data cluster to this host offset, with nothing between it and the end of the file. */
export function moveFirstCluster(path: string, offset: number): void {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  patchBytes(path, offset, readBytes(path, hostOffset(path, 0), clusterSize));
  patchL2(path, 0, (1n << 63n) | BigInt(offset));
}
