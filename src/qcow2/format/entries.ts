/**
 * L1 and L2 table entries (specification: "Cluster mapping"), decoded from their two 32-bit halves: a bigint decode
 * costs twenty times as much and this runs for every cluster of every request.
 */
import { TWO_32 } from './units.js';

/** Bits 9 to 55 hold a host offset in both kinds of entry. */
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
/** The cluster belongs to this disk alone: its reference count is 1. */
export const COPIED_HIGH = 0x8000_0000;
const COMPRESSED_HIGH = 0x4000_0000;
export const ZERO_LOW = 1;
/** For what is lost of a table: an entry that nobody can follow. As a bitmap of subclusters it contradicts itself. */
export const LOST_ENTRY: Buffer = Buffer.from('00fffffffffffe00', 'hex');

export function entryOffset(high: number, low: number): number {
  return (high & OFFSET_HIGH) * TWO_32 + ((low & OFFSET_LOW) >>> 0);
}

export const isCompressed = (high: number): boolean => (high & COMPRESSED_HIGH) !== 0;
export const isCopied = (high: number): boolean => (high & COPIED_HIGH) !== 0;
/** Standard entries only: with extended L2 entries the bit means nothing. */
export const isZero = (low: number): boolean => (low & ZERO_LOW) !== 0;

/** How a compressed descriptor splits into an offset and a count of sectors; depends on the cluster size alone. */
export interface CompressedLayout {
  /** Of the high half. */
  readonly offsetMask: number;
  readonly sectorsShift: number;
  readonly sectorsMask: number;
}

export function compressedLayout(clusterBits: number): CompressedLayout {
  const shift = 62 - (clusterBits - 8);
  return {
    offsetMask: 2 ** (shift - 32) - 1,
    sectorsShift: shift - 32,
    sectorsMask: 2 ** (clusterBits - 8) - 1,
  };
}

/** Host offset of the compressed data: bytes, not aligned to anything. */
export function compressedOffset(high: number, low: number, layout: CompressedLayout): number {
  return (high & layout.offsetMask) * TWO_32 + low;
}

/** Bytes from the compressed offset that may belong to the cluster; what follows its end is not its own. */
export function compressedLength(high: number, low: number, layout: CompressedLayout): number {
  const additionalSectors =
    ((high & ~COPIED_HIGH & ~COMPRESSED_HIGH) >>> layout.sectorsShift) & layout.sectorsMask;
  return (additionalSectors + 1) * 512 - (low & 511);
}
