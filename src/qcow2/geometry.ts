/** The numbers that follow from an image's cluster size and kind of L2 entry. Plain data: it travels to threads. */
import { bytesPerL1Entry, type Header, hasFeature, Incompatible } from './format/header.js';

export interface Geometry {
  readonly clusterBits: number;
  /** Bytes. */
  readonly clusterSize: number;
  /** Extended L2 entries: 16 bytes, the second word a bitmap of 32 subclusters. */
  readonly extended: boolean;
  /** Subclusters in a cluster: 32 with extended L2 entries, else 1. */
  readonly subclusters: number;
  /** Bytes of the unit that a mapping can tell apart: a subcluster, or a cluster. */
  readonly unitSize: number;
  /** Bytes of an L2 entry. */
  readonly entryBytes: number;
  /** An L2 slice is the piece of an L2 table that the cache holds: bytes of it, and entries. */
  readonly sliceBytes: number;
  readonly sliceEntries: number;
  readonly slicesPerTable: number;
  /** Guest bytes that a slice and a whole L2 table map. */
  readonly sliceCoverage: number;
  readonly tableCoverage: number;
  /** Guest data lies in an external data file, at its guest offset. */
  readonly externalData: boolean;
  /** Version 2 knows no zero clusters. */
  readonly zeroFlag: boolean;
}

/** As QEMU: large enough to make one read worth it, small enough to keep many. */
const MAX_SLICE_BYTES = 4096;

export function geometryOf(header: Header): Geometry {
  const { clusterSize, clusterBits } = header;
  const extended = hasFeature(header, Incompatible.extendedL2);
  const entryBytes = extended ? 16 : 8;
  const subclusters = extended ? 32 : 1;
  const sliceBytes = Math.min(MAX_SLICE_BYTES, clusterSize);
  const sliceEntries = sliceBytes / entryBytes;
  return {
    clusterBits,
    clusterSize,
    extended,
    subclusters,
    unitSize: clusterSize / subclusters,
    entryBytes,
    sliceBytes,
    sliceEntries,
    slicesPerTable: clusterSize / sliceBytes,
    sliceCoverage: sliceEntries * clusterSize,
    tableCoverage: bytesPerL1Entry(header),
    externalData: hasFeature(header, Incompatible.externalDataFile),
    zeroFlag: header.version >= 3,
  };
}
