/**
 * The fields of the header that change while an image is written, each with one small write in place, so that a power
 * cut leaves either the old or the new value. Everything else of the header, unknown extensions included, is left
 * alone. Nothing here syncs.
 */
import type { Storage } from '../../storage.js';
import { Autoclear, encodeField, type Header, type HeaderFields, Incompatible } from '../format/header.js';

const KNOWN_AUTOCLEAR = Object.values(Autoclear).reduce((mask, bit) => mask | bit, 0n);

/**
 * A program that does not know an autoclear feature breaks it by writing (specification: "Autoclear feature bits").
 * @returns whether there was anything to clear
 */
export function clearUnknownAutoclear(storage: Storage, header: Header): boolean {
  const kept = header.autoclearFeatures & KNOWN_AUTOCLEAR;
  if (kept === header.autoclearFeatures) return false;
  writeField(storage, { autoclearFeatures: kept });
  return true;
}

/** Version 2 has no such bit. */
export function markCorrupt(
  storage: Storage,
  header: Pick<Header, 'version' | 'incompatibleFeatures'>,
): void {
  if (header.version < 3) return;
  writeField(storage, { incompatibleFeatures: header.incompatibleFeatures | Incompatible.corrupt });
}

/** @param size bytes */
export function writeDiskSize(storage: Storage, size: number): void {
  writeField(storage, { size });
}

export function writeL1Location(storage: Storage, l1TableOffset: number, l1Size: number): void {
  writeField(storage, { l1Size, l1TableOffset });
}

export function writeRefcountTableLocation(
  storage: Storage,
  refcountTableOffset: number,
  refcountTableClusters: number,
): void {
  writeField(storage, { refcountTableOffset, refcountTableClusters });
}

/** The number of snapshots stays. */
export function writeSnapshotTableLocation(storage: Storage, snapshotsOffset: number): void {
  writeField(storage, { snapshotsOffset });
}

function writeField(storage: Storage, fields: HeaderFields): void {
  const { offset, bytes } = encodeField(fields);
  storage.write(bytes, 0, bytes.length, offset);
}
