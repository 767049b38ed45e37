/** Kinds of damage inside an image, each with the range of the disk that it costs. */

import { patchBytes, patchL1, patchL2, patchSubclusterBitmap, readL1, readL2 } from './damage.js';
import { type ImageSpec, KiB, MiB, type Step } from './images.js';

/** Of every disk here, which has 64 KiB to a cluster unless it says otherwise. */
export const DISK_SIZE = 8 * MiB;
/** Bits of an L1 or L2 entry. */
const COPIED = 1n << 63n;
const OUTSIDE = 1n << 40n;
const COMPRESSED_OFFSET_BITS = 54n;

export interface Damage {
  readonly title: string;
  readonly spec?: ImageSpec;
  readonly guest?: readonly Step[];
  readonly apply: (image: string) => void;
  /** What must fail: guest bytes from start to end. */
  readonly lost: readonly [start: number, end: number];
  /** QEMU takes it for something else than damage. */
  readonly isNoneToReference?: boolean;
  /** What the line in the log must contain. */
  readonly log: readonly string[];
}

export const FULL: readonly Step[] = [{ do: 'data', offset: 0, length: DISK_SIZE }];
const PACKED: readonly Step[] = [
  { do: 'compressed', offset: 0, length: 2 * MiB },
  { do: 'data', offset: 3 * MiB, length: 4 * MiB },
];
const EXTENDED: ImageSpec = { options: ['extended_l2=on'] };

export const DAMAGES: readonly Damage[] = [
  {
    title: 'an L2 entry whose cluster offset is unaligned',
    apply: (image) => patchL2(image, 5 * 64 * KiB, readL2(image, 5 * 64 * KiB) | 0x200n),
    lost: [5 * 64 * KiB, 6 * 64 * KiB],
    log: ['L2 entry 5 ', 'not aligned'],
  },
  {
    title: 'an L2 entry marked as a zero cluster in a version 2 image',
    spec: { version: 2 },
    apply: (image) => patchL2(image, 9 * 64 * KiB, readL2(image, 9 * 64 * KiB) | 1n),
    lost: [9 * 64 * KiB, 10 * 64 * KiB],
    log: ['L2 entry 9 ', 'version 2'],
  },
  {
    title: 'an L1 entry that points outside the file',
    spec: { clusterSize: 4 * KiB },
    apply: (image) => patchL1(image, 1, COPIED | OUTSIDE),
    lost: [2 * MiB, 4 * MiB],
    // To QEMU everything behind the end of the file is zeros, tables too: the disk seems empty there.
    isNoneToReference: true,
    log: ['L1 entry 1', '0x10000000000', 'outside the file'],
  },
  {
    title: 'an L1 entry whose table offset is unaligned',
    spec: { clusterSize: 4 * KiB },
    apply: (image) => patchL1(image, 2, readL1(image, 2) | 0x200n),
    lost: [4 * MiB, 6 * MiB],
    log: ['L1 entry 2', 'not aligned'],
  },
  {
    title: 'a compressed cluster full of garbage, zlib',
    guest: PACKED,
    apply: (image) => damageCompressed(image, 7 * 64 * KiB),
    lost: [7 * 64 * KiB, 8 * 64 * KiB],
    log: ['compressed cluster', '0x70000', 'does not inflate'],
  },
  {
    title: 'a compressed cluster full of garbage, zstd',
    spec: { options: ['compression_type=zstd'] },
    guest: PACKED,
    apply: (image) => damageCompressed(image, 7 * 64 * KiB),
    lost: [7 * 64 * KiB, 8 * 64 * KiB],
    log: ['compressed cluster', '0x70000', 'does not inflate'],
  },
  {
    title: 'a compressed cluster that lies outside the file',
    guest: PACKED,
    apply: (image) => patchL2(image, 0, readL2(image, 0) | (1n << (COMPRESSED_OFFSET_BITS - 4n))),
    lost: [0, 64 * KiB],
    log: ['compressed cluster', 'guest offset 0x0 '],
  },
  {
    title: 'an extended L2 entry with a subcluster both allocated and zero',
    spec: EXTENDED,
    apply: (image) => patchSubclusterBitmap(image, 3 * 64 * KiB, 0x0000_0010_ffff_ffffn),
    lost: [3 * 64 * KiB, 4 * 64 * KiB],
    log: ['L2 entry 3 ', 'both allocated and zero'],
  },
  {
    title: 'an extended L2 entry with an allocated subcluster but no cluster',
    spec: EXTENDED,
    apply: (image) => patchL2(image, 3 * 64 * KiB, 0n),
    lost: [3 * 64 * KiB, 4 * 64 * KiB],
    log: ['L2 entry 3 ', 'no cluster'],
  },
  {
    title: 'an L2 entry that leads elsewhere in an external data file',
    spec: { options: ['data_file=data.raw'] },
    apply: (image) => patchL2(image, 4 * 64 * KiB, COPIED | BigInt(5 * 64 * KiB)),
    lost: [4 * 64 * KiB, 5 * 64 * KiB],
    log: ['L2 entry 4 ', 'data file'],
  },
  {
    title: 'a compressed cluster in an image with an external data file',
    spec: { options: ['data_file=data.raw'] },
    apply: (image) => patchL2(image, 4 * 64 * KiB, readL2(image, 4 * 64 * KiB) | (1n << 62n)),
    lost: [4 * 64 * KiB, 5 * 64 * KiB],
    log: ['L2 entry 4 ', 'data file'],
  },
];

function damageCompressed(image: string, guestOffset: number): void {
  // 64 KiB clusters: the offset is the low 54 bits. Block type 3 does not exist in deflate, nor this magic in zstd.
  const at = Number(BigInt.asUintN(Number(COMPRESSED_OFFSET_BITS), readL2(image, guestOffset)));
  patchBytes(image, at, Buffer.alloc(16, 0xff));
}
