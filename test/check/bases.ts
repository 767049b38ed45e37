/** Sound images, one of each kind of structure, for the damage that comes later. */

import { EXTENSION, patchField, patchNumber, readExtensions, readNumber } from '../support/damage.js';
import { compressedGuest, richGuest, subclusterGuest } from '../support/guests.js';
import {
  addBitmap,
  createImage,
  type Image,
  imagePath,
  KiB,
  MiB,
  takeSnapshot,
  writeSecret,
  writeSteps,
} from '../support/images.js';
import { filled } from '../support/variant.js';

export type Base = (dir: string) => Image;

const small = { size: 2 * MiB, clusterSize: 4 * KiB };

/** Small clusters and wide refcounts, for more than one table and block. */
export const plain: Base = (dir) => {
  const spec = { size: 8 * MiB, clusterSize: 4 * KiB, options: ['refcount_bits=64'] };
  const image = filled(dir, spec, 1, richGuest);
  writeSteps(image, 2, [{ do: 'data', offset: 3 * MiB, length: 2 * MiB }]);
  return image;
};
/** One cluster of its refcount table reaches 8 MiB. */
export const tinyClusters: Base = (dir) => filled(dir, { size: 512 * KiB, clusterSize: 512 }, 1, richGuest);
export const version2: Base = (dir) => filled(dir, { ...small, version: 2 }, 1, richGuest);
export const compressed: Base = (dir) => filled(dir, small, 1, compressedGuest);
export const extended: Base = (dir) =>
  filled(dir, { size: 2 * MiB, clusterSize: 64 * KiB, options: ['extended_l2=on'] }, 1, subclusterGuest);
export const extendedExternal: Base = (dir) => {
  const options = ['extended_l2=on', 'data_file=image.data'];
  return filled(dir, { size: 2 * MiB, clusterSize: 64 * KiB, options }, 1, subclusterGuest);
};
export const externalData: Base = (dir) => filled(dir, { options: ['data_file=image.data'] }, 1, richGuest);
export const refcountsOf =
  (bits: number): Base =>
  (dir) =>
    filled(dir, { ...small, options: [`refcount_bits=${bits}`] }, 1, richGuest);

export const snapshots: Base = (dir) => {
  const image = filled(dir, small, 1, richGuest);
  takeSnapshot(image, 'one', '1');
  writeSteps(image, 2, [{ do: 'data', offset: 20 * KiB, length: 300 * KiB }]);
  takeSnapshot(image, 'two', '2');
  writeSteps(image, 3, [{ do: 'data', offset: 512, length: 100 * KiB }]);
  return image;
};

/** A zero cluster that keeps its place, where the backing file has data. */
export const zerosAbove: Base = (dir) => {
  const base = filled(dir, { ...small, name: 'base.qcow2' }, 1, richGuest);
  const image = createImage(dir, { ...small, backing: { file: base.name, format: 'qcow2' } });
  const range = { offset: 0, length: 64 * KiB };
  writeSteps(image, 2, [
    { do: 'data', ...range },
    { do: 'zero', ...range },
  ]);
  return image;
};

export const bitmaps: Base = (dir) => {
  const image = createImage(dir, small);
  for (const name of ['first', 'second']) addBitmap(image, name);
  writeSteps(image, 1, richGuest(small.size, small.clusterSize));
  return image;
};

/** L2 tables behind two of eight L1 entries, in the disk and in a snapshot. */
export const sparse: Base = (dir) => {
  const image = createImage(dir, { size: 16 * MiB, clusterSize: 4 * KiB });
  const places = [0, 4 * MiB].map((offset) => ({ do: 'data', offset, length: 64 * KiB }) as const);
  writeSteps(image, 1, places);
  takeSnapshot(image, 'one', '1');
  writeSteps(image, 2, places);
  return image;
};

/** As a crash leaves it after a resize: the bitmap has been resized only in memory. */
export const grownWithBitmap: Base = (dir) => {
  const image = createImage(dir, small);
  const path = imagePath(image);
  addBitmap(image, 'first', 512);
  writeSteps(image, 1, richGuest(small.size, small.clusterSize));
  const directory = Number(
    readExtensions(path)
      .find(({ type }) => type === EXTENSION.bitmaps)!
      .data.readBigUInt64BE(16),
  );
  patchNumber(path, directory + 12, 4, Number(readNumber(path, directory + 12, 4)) | 1);
  patchField(path, 'l1Size', 64);
  patchField(path, 'size', 128 * MiB);
  return image;
};

export const luks: Base = (dir) => {
  const secret = writeSecret(dir, 'secret');
  return filled(dir, { secret, encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'] }, 1, richGuest);
};
