/** The sectors of a disk, which no image records: what a GUID partition table that lies in the second one tells of them. */
import type { Disk } from '../disk.js';

export const SECTOR_SIZES = [512, 4096] as const;
export type SectorSize = (typeof SECTOR_SIZES)[number];

/** UEFI specification, section 5.3.2: the header is in the sector that it calls its own, the one with number 1. */
const SIGNATURE = 'EFI PART';
const OWN_SECTOR_OFFSET = 24;
const HEADER_BYTES = 92;

/** @returns bytes; 512 for a disk without such a table, or where it cannot be read */
export function detectSectorSize(disk: Disk): SectorSize {
  return SECTOR_SIZES.find((size) => hasTable(disk, size)) ?? 512;
}

function hasTable(disk: Disk, sectorSize: SectorSize): boolean {
  if (disk.size < sectorSize + HEADER_BYTES) return false;
  const header = Buffer.alloc(HEADER_BYTES);
  try {
    disk.read(header, 0, HEADER_BYTES, sectorSize);
  } catch {
    return false;
  }
  return (
    header.toString('latin1', 0, SIGNATURE.length) === SIGNATURE &&
    header.readBigUInt64LE(OWN_SECTOR_OFFSET) === 1n
  );
}
