/** Image headers made byte by byte, independent of src/ (specification: "Header"). */

const FIELDS = {
  magic: [0, 4],
  version: [4, 4],
  backingFileOffset: [8, 8],
  backingFileSize: [16, 4],
  clusterBits: [20, 4],
  size: [24, 8],
  cryptMethod: [32, 4],
  l1Size: [36, 4],
  l1TableOffset: [40, 8],
  refcountTableOffset: [48, 8],
  refcountTableClusters: [56, 4],
  nbSnapshots: [60, 4],
  snapshotsOffset: [64, 8],
  incompatibleFeatures: [72, 8],
  compatibleFeatures: [80, 8],
  autoclearFeatures: [88, 8],
  refcountOrder: [96, 4],
  headerLength: [100, 4],
  compressionType: [104, 1],
} as const;

export type HeaderFields = Partial<Record<keyof typeof FIELDS, number | bigint>>;

/** A sound disk of 1 MiB in clusters of 64 KiB. */
const SOUND: HeaderFields = {
  magic: 0x514649fb,
  version: 3,
  clusterBits: 16,
  size: 0x100000,
  l1Size: 1,
  l1TableOffset: 0x200000,
  refcountTableOffset: 0x400000,
  refcountTableClusters: 1,
  refcountOrder: 4,
  headerLength: 112,
};

export function headerBytes(fields: HeaderFields = {}, length = 112): Buffer {
  const bytes = Buffer.alloc(Math.max(112, length));
  const version2 = fields.version === 2;
  for (const [name, value] of Object.entries({ ...SOUND, ...fields })) {
    const [offset, width] = FIELDS[name as keyof typeof FIELDS];
    if (version2 && offset >= 72) continue;
    const digits = BigInt(value).toString(16);
    bytes.write(digits.padStart(2 * width, '0'), offset, width, 'hex');
  }
  return bytes.subarray(0, length);
}
