/** What a kind of damage is, and the cuts that many of them need. */

import type { FindingKind } from '../../../src/qcow2/check/finding.js';
import {
  EXTENSION,
  fileLength,
  hostOffset,
  patchBytes,
  patchL1,
  patchL2,
  patchNumber,
  readBytes,
  readExtensions,
  readField,
  readL1,
  readL2,
  readNumber,
  truncateImage,
} from '../../support/damage.js';
import { refcountBlocks } from '../../support/dirty-images.js';
import { KiB } from '../../support/images.js';
import type { Base } from '../bases.js';

export interface Damage {
  readonly base: Base;
  readonly damage: (path: string) => void;
  /** What the check must find, at least. */
  readonly kinds: readonly FindingKind[];
  /**
   * After `--repair all`: `mended`: sound, and it reads as before the damage. `changed`: sound, but some bytes are lost.
   * `remains`: it is told, and nothing is changed that would make it worse.
   */
  readonly repair: 'mended' | 'changed' | 'remains';
  /**
   * Where the reference says something else. `silent`: it does not look for it. `milder`: it calls it a leak. `guesses`:
   * its repair drops what it cannot read.
   */
  readonly reference?: 'silent' | 'milder' | 'guesses';
}

export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;
export const FAR = 0x7f00_0000_0000n;
export const CLUSTER = 4 * KiB;
/** A data cluster of `plain`, and a neighbour. */
export const GUEST = 0;
export const NEXT = GUEST + 2 * CLUSTER;
/** A data cluster that `snapshots` shares with a snapshot. */
export const SHARED = 200 * KiB;

/** Where the refcount of the cluster at a host offset lies: byte offset, for widths of whole bytes. */
function refcountPlace(path: string, offset: number): { readonly at: number; readonly bytes: number } {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const order = readField(path, 'version') === 2n ? 4 : Number(readField(path, 'refcountOrder'));
  const bytes = 2 ** order / 8;
  const perBlock = clusterSize / bytes;
  const cluster = Math.floor(offset / clusterSize);
  const block = refcountBlocks(path).find(({ index }) => index === Math.floor(cluster / perBlock));
  if (block === undefined) throw new Error(`${path}: no refcount block for ${offset}`);
  return { at: block.offset + (cluster % perBlock) * bytes, bytes };
}

export function setRefcount(path: string, offset: number, count: number): void {
  const { at, bytes } = refcountPlace(path, offset);
  patchNumber(path, at, bytes, count);
}

export const field = readField;
export const dataOf = (path: string, guest = GUEST): number => hostOffset(path, guest);
export const extension = (path: string, type: number): { offset: number; data: Buffer } =>
  readExtensions(path).find((one) => one.type === type)!;
export const bitmapDirectory = (path: string): number =>
  Number(extension(path, EXTENSION.bitmaps).data.readBigUInt64BE(16));
export const bitmapTable = (path: string): number => Number(readNumber(path, bitmapDirectory(path), 8));
export const setL2 =
  (change: (entry: bigint, path: string) => bigint, guest = GUEST) =>
  (path: string) =>
    patchL2(path, guest, change(readL2(path, guest), path));
export const setL1 =
  (change: (entry: bigint, path: string) => bigint, index = 0) =>
  (path: string) =>
    patchL1(path, index, change(readL1(path, index), path));
export const onMetadata = (target: (path: string) => bigint | number): ((path: string) => void) =>
  setL2((_, path) => COPIED | BigInt(target(path)));

/** A cluster at the end of the file that nothing uses, counted once. */
export function addLeak(path: string): void {
  const clusterSize = 2 ** Number(field(path, 'clusterBits'));
  const end = Math.ceil(fileLength(path) / clusterSize) * clusterSize;
  patchBytes(path, end, Buffer.alloc(clusterSize, 0x5a));
  setRefcount(path, end, 1);
}

/** Moves a table to the end of the file, and cuts it off there after `kept` bytes. */
export function cutOffTable(path: string, offset: number, kept: number, name: (place: number) => void): void {
  const clusterSize = 2 ** Number(field(path, 'clusterBits'));
  const end = Math.ceil(fileLength(path) / clusterSize) * clusterSize;
  patchBytes(path, end, readBytes(path, offset, clusterSize));
  name(end);
  setRefcount(path, end, 1);
  setRefcount(path, offset, 0);
  truncateImage(path, end + kept);
}
