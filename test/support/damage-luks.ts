/** Byte surgery on the LUKS1 header inside a qcow2 file. */

import { EXTENSION, patchBytes, patchNumber, readBytes, readExtensions, readNumber } from './damage.js';

// Offset and width in bytes, from cryptsetup's on-disk-format.pdf, "LUKS phdr layout".
export const LUKS_FIELDS = {
  magic: [0, 6],
  version: [6, 2],
  cipherName: [8, 32],
  cipherMode: [40, 32],
  hashSpec: [72, 32],
  payloadOffset: [104, 4],
  keyBytes: [108, 4],
  masterKeyDigest: [112, 20],
  masterKeySalt: [132, 32],
  masterKeyIterations: [164, 4],
  uuid: [168, 40],
} as const;

export const SLOTS_OFFSET = 208;
export const SLOT_SIZE = 48;

// "key slot layout"; `active` is 0x00ac71f3, inactive 0x0000dead.
export const SLOT_FIELDS = {
  active: [0, 4],
  iterations: [4, 4],
  salt: [8, 32],
  keyMaterialOffset: [40, 4],
  stripes: [44, 4],
} as const;

export type LuksField = keyof typeof LUKS_FIELDS;
export type LuksSlotField = keyof typeof SLOT_FIELDS;
/** Texts and bytes are padded with NUL to the width of the field. */
export type LuksValue = bigint | number | string | Uint8Array;

/** Where extension 0x0537be77 says the LUKS header is, and how long. */
export function luksHeader(path: string): { readonly offset: number; readonly length: number } {
  const pointer = readExtensions(path).find(({ type }) => type === EXTENSION.encryption);
  if (pointer === undefined) throw new Error(`${path}: no encryption header`);
  return {
    offset: Number(pointer.data.readBigUInt64BE(0)),
    length: Number(pointer.data.readBigUInt64BE(8)),
  };
}

/** Changes what the extension says of the LUKS header's place. */
export function patchLuksPointer(path: string, offset: bigint | number, length: bigint | number): void {
  const pointer = readExtensions(path).find(({ type }) => type === EXTENSION.encryption);
  if (pointer === undefined) throw new Error(`${path}: no encryption header`);
  patchNumber(path, pointer.offset, 8, offset);
  patchNumber(path, pointer.offset + 8, 8, length);
}

export function readLuksBytes(path: string, field: LuksField): Buffer {
  const [at, width] = LUKS_FIELDS[field];
  return readBytes(path, luksHeader(path).offset + at, width);
}

export function patchLuks(path: string, field: LuksField, value: LuksValue): void {
  const [at, width] = LUKS_FIELDS[field];
  patchValue(path, luksHeader(path).offset + at, width, value);
}

export function readLuksSlot(path: string, slot: number, field: LuksSlotField): bigint {
  const [at, width] = SLOT_FIELDS[field];
  return readNumber(path, slotOffset(path, slot) + at, width);
}

export function patchLuksSlot(path: string, slot: number, field: LuksSlotField, value: LuksValue): void {
  const [at, width] = SLOT_FIELDS[field];
  patchValue(path, slotOffset(path, slot) + at, width, value);
}

function slotOffset(path: string, slot: number): number {
  return luksHeader(path).offset + SLOTS_OFFSET + slot * SLOT_SIZE;
}

function patchValue(path: string, offset: number, width: number, value: LuksValue): void {
  if (typeof value === 'number' || typeof value === 'bigint') {
    patchNumber(path, offset, width, value);
    return;
  }
  const bytes = Buffer.alloc(width);
  Buffer.from(typeof value === 'string' ? Buffer.from(value, 'utf8') : value).copy(bytes);
  patchBytes(path, offset, bytes);
}
