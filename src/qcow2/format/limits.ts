/** Limits on what an image may ask for: the reference implementation's own (QEMU block/qcow2.h). */

const KIB = 1024;
const MIB = 1024 * KIB;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** A subcluster must hold at least one sector: 32 * 512. */
export const MIN_EXTENDED_L2_CLUSTER_BITS = 14;
export const MAX_REFCOUNT_ORDER = 6;
export const MAX_L1_BYTES = 32 * MIB;
export const MAX_REFCOUNT_TABLE_BYTES = 8 * MIB;
export const MAX_BACKING_NAME_BYTES = 1023;
export const MAX_BACKING_FORMAT_BYTES = 15;
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_TABLE_BYTES = 64 * MIB;
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024;
export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY_BYTES = 64 * MIB;
/** Headers of the reference tools take 2 MiB; eight slots of 512-bit keys, 4000 stripes each, fit well. */
export const MAX_LUKS_HEADER_BYTES = 64 * MIB;
/** Of all images of a backing chain together. */
export const MAX_CHAIN_L1_BYTES = 128 * MIB;
/** Files in a backing chain. */
export const MAX_CHAIN_DEPTH = 256;
