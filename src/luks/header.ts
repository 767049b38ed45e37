/**
 * The LUKS1 header (LUKS On-Disk Format Specification 1.2.3, figures 1 and 2): 592 bytes, big endian. In a qcow2
 * image it starts where the encryption header extension points; key material offsets count from there.
 */

import { Qcow2fsError } from '../errors.js';
import { struct } from '../struct.js';

export const SECTOR_BYTES = 512;
export const KEY_SLOTS = 8;
const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');

const HEADER = struct('LUKS header', 'be', 592, {
  magic: [0, 'bytes:6'],
  version: [6, 'u16'],
  cipherName: [8, 'text:32'],
  cipherMode: [40, 'text:32'],
  hashSpec: [72, 'text:32'],
  payloadOffset: [104, 'u32'], // sectors
  keyBytes: [108, 'u32'],
  masterKeyDigest: [112, 'bytes:20'],
  masterKeyDigestSalt: [132, 'bytes:32'],
  masterKeyDigestIterations: [164, 'u32'],
  uuid: [168, 'text:40'],
  keySlots: [208, 'bytes:384'],
});

const KEY_SLOT = struct('LUKS key slot', 'be', 48, {
  state: [0, 'u32'],
  iterations: [4, 'u32'],
  salt: [8, 'bytes:32'],
  keyMaterialOffset: [40, 'u32'], // sectors
  stripes: [44, 'u32'],
});

const ACTIVE = 0x00ac71f3;
const DISABLED = 0x0000dead;
const SLOT_STATES: Readonly<Record<number, KeySlot['state']>> = {
  [ACTIVE]: 'active',
  [DISABLED]: 'disabled',
};

/** Up to the end of the last key slot; the key material follows. */
export const LUKS_HEADER_BYTES = HEADER.size;

export interface KeySlot {
  /** `damaged` when the state word is neither of the two that the specification knows. */
  readonly state: 'active' | 'disabled' | 'damaged';
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Buffer;
  /** Bytes from the start of the header. */
  readonly keyMaterialOffset: number;
  readonly stripes: number;
}

export interface LuksHeader {
  readonly version: number;
  readonly cipherName: string;
  /** `<mode>-<iv generator>[:<hash>]` */
  readonly cipherMode: string;
  readonly hashSpec: string;
  /** Bytes from the start of the header; qcow2 does not use it. */
  readonly payloadOffset: number;
  /** Size of the master key; with XTS both halves. Not checked yet: `cipherParameters` does. */
  readonly keyBytes: number;
  readonly masterKeyDigest: Buffer;
  readonly masterKeyDigestSalt: Buffer;
  readonly masterKeyDigestIterations: number;
  readonly uuid: string;
  readonly keySlots: readonly KeySlot[];
}

/**
 * Decodes what is written, and judges neither the cipher nor the key slots.
 * @throws Qcow2fsError 'format', or 'unsupported' for LUKS2
 */
export function parseLuksHeader(bytes: Buffer): LuksHeader {
  if (bytes.length < MAGIC.length + 2 || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new Qcow2fsError('format', 'no LUKS header where the image says it is: bad magic');
  }
  checkVersion(bytes.readUInt16BE(HEADER.offsets.version));
  if (bytes.length < HEADER.size) {
    throw new Qcow2fsError('format', `the LUKS header ends after ${bytes.length} of ${HEADER.size} bytes`);
  }
  for (const field of ['cipherName', 'cipherMode', 'hashSpec'] as const) {
    const at = HEADER.offsets[field];
    if (!bytes.subarray(at, at + 32).includes(0)) {
      throw new Qcow2fsError('format', `LUKS header: the text at byte ${at} does not end`);
    }
  }

  const { magic: _magic, keySlots, ...header } = HEADER.read(bytes);
  return {
    ...header,
    payloadOffset: header.payloadOffset * SECTOR_BYTES,
    keySlots: Array.from({ length: KEY_SLOTS }, (_, slot) => parseKeySlot(keySlots, slot * KEY_SLOT.size)),
  };
}

function checkVersion(version: number): void {
  if (version === 1) return;
  if (version === 2) {
    throw new Qcow2fsError(
      'unsupported',
      'LUKS2 is not supported: convert the header to LUKS1 (cryptsetup convert --type luks1), or copy the disk with qemu-img convert',
    );
  }
  throw new Qcow2fsError('unsupported', `LUKS version ${version} is not supported`);
}

function parseKeySlot(bytes: Buffer, at: number): KeySlot {
  const slot = KEY_SLOT.read(bytes, at);
  const state = SLOT_STATES[slot.state] ?? 'damaged';
  return {
    ...slot,
    state,
    active: state === 'active',
    keyMaterialOffset: slot.keyMaterialOffset * SECTOR_BYTES,
  };
}

/** Without the key material. */
export function encodeLuksHeader(header: LuksHeader): Buffer {
  const keySlots = Buffer.alloc(KEY_SLOTS * KEY_SLOT.size);
  for (const [index, slot] of header.keySlots.entries()) {
    KEY_SLOT.write(keySlots, index * KEY_SLOT.size, {
      ...slot,
      state: slot.active ? ACTIVE : DISABLED,
      keyMaterialOffset: slot.keyMaterialOffset / SECTOR_BYTES,
    });
  }
  const bytes = Buffer.alloc(HEADER.size);
  const payloadOffset = header.payloadOffset / SECTOR_BYTES;
  HEADER.write(bytes, 0, { ...header, magic: MAGIC, payloadOffset, keySlots });
  return bytes;
}
