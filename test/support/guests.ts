/**
 * What the guests wrote: lists of steps that scale with the cluster size, each leaving an image in which every
 * kind of mapping occurs. Steps beyond the end of a small disk are cut or left out.
 */

import { KiB, type Step, scriptUnit } from './images.js';
import { SECTOR_SIZE } from './pattern.js';

export type Guest = (size: number, clusterSize: number) => Step[];

/** Data, overwritten data, explicit zeros, discards, unaligned pieces, and holes between them. */
export const richGuest: Guest = (size, clusterSize) => {
  const unit = scriptUnit(clusterSize);
  return within(size, [
    { do: 'data', offset: 0, length: 3 * unit },
    { do: 'zero', offset: unit, length: unit },
    { do: 'zero-unmap', offset: 2 * unit, length: unit / 2 },
    { do: 'data', offset: 3 * unit + SECTOR_SIZE, length: unit / 4 },
    { do: 'data', offset: 4 * unit + unit / 2 - SECTOR_SIZE, length: unit },
    { do: 'data', offset: 6 * unit, length: 2 * unit },
    { do: 'discard', offset: 6 * unit, length: unit },
    { do: 'zero', offset: 8 * unit, length: unit },
    { do: 'zero-unmap', offset: 9 * unit, length: unit },
    ...scattered(10 * unit, 2 * unit, clusterSize),
    ...tail(size, unit, 'data'),
  ]);
};

/** Compressed clusters of both kinds of data, next to and below every other kind. */
export const compressedGuest: Guest = (size, clusterSize) => {
  const unit = scriptUnit(clusterSize);
  return within(size, [
    { do: 'compressed', offset: 0, length: 4 * unit },
    { do: 'compressed', offset: 4 * unit, length: unit, kind: 'noise' },
    { do: 'data', offset: unit + SECTOR_SIZE, length: 3 * SECTOR_SIZE, kind: 'noise' },
    { do: 'zero', offset: 2 * unit, length: unit },
    { do: 'zero-unmap', offset: 3 * unit, length: unit / 2 },
    { do: 'compressed', offset: 6 * unit, length: 2 * unit },
    { do: 'discard', offset: 7 * unit, length: unit },
    { do: 'data', offset: 8 * unit, length: unit },
    { do: 'data', offset: 9 * unit + unit / 2, length: unit, kind: 'noise' },
    { do: 'compressed', offset: 11 * unit, length: unit },
    { do: 'data', offset: 11 * unit + unit / 2, length: SECTOR_SIZE, kind: 'noise' },
    ...tail(size, clusterSize, 'compressed'),
  ]);
};

/** Nothing in it compresses, so QEMU stores normal clusters although asked for compressed ones. */
export const incompressibleGuest: Guest = (size, clusterSize) => {
  const unit = scriptUnit(clusterSize);
  return within(size, [
    { do: 'compressed', offset: 0, length: 3 * unit, kind: 'noise' },
    { do: 'compressed', offset: 3 * unit, length: unit },
    { do: 'compressed', offset: 5 * unit, length: 2 * unit, kind: 'noise' },
  ]);
};

/** For extended L2: every combination of subclusters that are data, zero and unallocated in one cluster. */
export const subclusterGuest: Guest = (size, clusterSize) => {
  const subcluster = clusterSize / 32;
  const unit = scriptUnit(clusterSize);
  const steps: Step[] = [
    { do: 'data', offset: 0, length: 2 * clusterSize },
    { do: 'zero-unmap', offset: clusterSize, length: 5 * subcluster },
    { do: 'discard', offset: clusterSize + 8 * subcluster, length: 3 * subcluster },
  ];
  const mixed = 2 * unit;
  for (let index = 0; index < 32; index++) {
    const offset = mixed + index * subcluster;
    if (index % 3 === 0) steps.push({ do: 'data', offset, length: subcluster });
    if (index % 3 === 1) steps.push({ do: 'zero-unmap', offset, length: subcluster });
  }
  return within(size, [
    ...steps,
    // The first and the last subcluster alone, half a subcluster, one pair across two clusters.
    { do: 'data', offset: 3 * unit, length: subcluster },
    { do: 'data', offset: 4 * unit - subcluster, length: subcluster },
    { do: 'data', offset: 5 * unit + subcluster, length: SECTOR_SIZE },
    { do: 'data', offset: 7 * unit - SECTOR_SIZE, length: 2 * SECTOR_SIZE },
    { do: 'zero', offset: 8 * unit, length: 7 * subcluster },
    { do: 'zero', offset: 9 * unit, length: unit },
    { do: 'data', offset: 9 * unit + 3 * subcluster, length: 2 * subcluster },
    ...scattered(10 * unit, 2 * unit, clusterSize),
    ...tail(size, unit, 'data'),
  ]);
};

/** For extended L2: compressed clusters, whole and broken up by writes, zeros and discards in subclusters. */
export const compressedSubclusterGuest: Guest = (size, clusterSize) => {
  const subcluster = clusterSize / 32;
  const unit = scriptUnit(clusterSize);
  return within(size, [
    ...subclusterGuest(size, clusterSize),
    { do: 'compressed', offset: 13 * unit, length: 4 * unit },
    { do: 'data', offset: 14 * unit + subcluster, length: subcluster, kind: 'noise' },
    { do: 'zero-unmap', offset: 15 * unit, length: 3 * subcluster },
    { do: 'discard', offset: 16 * unit, length: clusterSize },
  ]);
};

/** Over a backing file: a few pieces of its own, and zeros that hide what lies below. */
export const overlayGuest: Guest = (size, clusterSize) => {
  const unit = scriptUnit(clusterSize);
  return within(size, [
    { do: 'data', offset: SECTOR_SIZE, length: 2 * SECTOR_SIZE },
    { do: 'zero', offset: unit, length: unit },
    { do: 'zero-unmap', offset: 2 * unit + SECTOR_SIZE, length: 2 * unit },
    { do: 'data', offset: 6 * unit + unit / 2, length: unit },
    { do: 'data', offset: 8 * unit, length: unit },
    { do: 'discard', offset: 8 * unit, length: unit },
    ...scattered(10 * unit, unit, clusterSize),
    ...tail(size, 2 * SECTOR_SIZE, 'data'),
  ]);
};

/** A layer of a deep chain: its own stripe of every `count`, so that each layer shows through somewhere. */
export function stripeGuest(level: number, count: number): Guest {
  return (size, clusterSize) => {
    const steps: Step[] = [];
    const width = Math.max(8 * KiB, clusterSize / 4);
    for (let offset = level * width; offset < size; offset += count * width) {
      steps.push({ do: 'data', offset, length: Math.min(width, 4 * KiB + level * SECTOR_SIZE) });
    }
    return within(size, [...steps, { do: 'zero', offset: (2 * level + 1) * width, length: width / 2 }]);
  };
}

/** The empty guest. */
export const noGuest: Guest = () => [];

/** Short pieces of growing length at growing distances, smaller than a cluster where clusters are big. */
function scattered(start: number, length: number, clusterSize: number): Step[] {
  const grain = clusterSize <= 4 * KiB ? clusterSize : Math.max(SECTOR_SIZE, clusterSize / 64);
  const steps: Step[] = [];
  for (let index = 0, offset = start; index < 16; index++) {
    const piece = grain * (1 + (index % 4));
    if (offset + piece > start + length) break;
    steps.push({ do: 'data', offset, length: piece });
    offset += piece + grain * (1 + (index % 5));
  }
  return steps;
}

/** The last bytes of the disk, from the last boundary of `unit` on. */
function tail(size: number, unit: number, kind: 'data' | 'compressed'): Step[] {
  const end = size - (size % SECTOR_SIZE);
  const offset = Math.max(0, Math.floor((end - 1) / unit) * unit);
  return [{ do: kind, offset, length: end - offset }];
}

function within(size: number, steps: readonly Step[]): Step[] {
  const end = size - (size % SECTOR_SIZE);
  return steps
    .map((step) => ({ ...step, length: Math.min(step.length, end - step.offset) }))
    .filter((step) => step.length > 0);
}
