/** Image headers made byte by byte, independent of src/ (specification: "Header"). */

import { HEADER_FIELDS as FIELDS, type HeaderField } from '../../support/damage.js';

export type HeaderFields = Partial<Record<HeaderField, number | bigint>>;

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
