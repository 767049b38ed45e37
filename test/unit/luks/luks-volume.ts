/** Writes LUKS1 headers with their key material, laid out as QEMU does. What it writes, QEMU opens (qemu-oracle.test.ts). */
import { createHash, pbkdf2Sync, randomBytes } from 'node:crypto';
import type { HashName } from '../../../src/crypto/hash.js';
import type { SectorCipherSpec } from '../../../src/crypto/sector-cipher.js';
import { referenceEncrypt } from '../crypto/reference.js';

const ITERATIONS = 1000;
const STRIPES = 4000;

export interface VolumeSpec {
  /** AES if it is not given. */
  readonly cipher?: SectorCipherSpec['cipher'];
  readonly mode: SectorCipherSpec['mode'];
  readonly iv: SectorCipherSpec['iv'];
  readonly ivHash?: HashName;
  readonly hash: HashName;
  readonly masterKey: Buffer;
  /** Secrets by number of their slot. */
  readonly slots: Readonly<Record<number, Uint8Array>>;
}

/** Where things are in the header, for tests that damage it. */
export const AT = {
  version: 6,
  cipherName: 8,
  cipherMode: 40,
  hashSpec: 72,
  keyBytes: 108,
  digestIterations: 164,
  slot: (index: number) => 208 + 48 * index,
  slotIterations: (index: number) => 212 + 48 * index,
  slotMaterial: (index: number) => 248 + 48 * index,
  slotStripes: (index: number) => 252 + 48 * index,
} as const;

export function luksVolume(spec: VolumeSpec): Buffer {
  const { cipher = 'aes', mode, iv, ivHash, hash, masterKey } = spec;
  const slotBytes = Math.ceil((masterKey.length * STRIPES) / 4096) * 4096;
  const volume = Buffer.alloc(4096 + 8 * slotBytes);
  volume.write('LUKS\xba\xbe', 0, 'latin1');
  volume.writeUInt16BE(1, AT.version);
  volume.write(cipher, AT.cipherName);
  volume.write(`${mode}-${iv}${ivHash === undefined ? '' : `:${ivHash}`}`, AT.cipherMode);
  volume.write(hash, AT.hashSpec);
  volume.writeUInt32BE(volume.length / 512, 104);
  volume.writeUInt32BE(masterKey.length, AT.keyBytes);
  const salt = randomBytes(32);
  pbkdf2Sync(masterKey, salt, ITERATIONS, 20, hash).copy(volume, 112);
  salt.copy(volume, 132);
  volume.writeUInt32BE(ITERATIONS, AT.digestIterations);
  volume.write('6d2a5f1e-0000-4000-8000-00000000c0de', 168);
  for (let index = 0; index < 8; index++) {
    writeSlot(volume, spec, index, 4096 + index * slotBytes);
  }
  return volume;
}

function writeSlot(volume: Buffer, spec: VolumeSpec, index: number, offset: number): void {
  const secret = spec.slots[index];
  volume.writeUInt32BE(secret === undefined ? 0xdead : 0xac71f3, AT.slot(index));
  volume.writeUInt32BE(offset / 512, AT.slotMaterial(index));
  volume.writeUInt32BE(STRIPES, AT.slotStripes(index));
  if (secret === undefined) return;
  const salt = randomBytes(32);
  volume.writeUInt32BE(ITERATIONS, AT.slotIterations(index));
  salt.copy(volume, AT.slotIterations(index) + 4);
  const key = pbkdf2Sync(secret, salt, ITERATIONS, spec.masterKey.length, spec.hash);
  const { cipher: name = 'aes', mode, iv, ivHash } = spec;
  const cipher: SectorCipherSpec = {
    ...{ cipher: name, mode, iv, key },
    ...(ivHash === undefined ? {} : { ivHash }),
  };
  referenceEncrypt(cipher, splitKey(spec.masterKey, spec.hash), 0).copy(volume, offset);
}

/** The anti-forensic splitter, splitting direction: the stripe that is not random makes up for the others. */
export function splitKey(key: Buffer, hash: HashName, stripes = STRIPES): Buffer {
  const material = randomBytes(key.length * stripes);
  let state: Buffer = Buffer.alloc(key.length);
  const xor = (a: Buffer, b: Buffer) => Buffer.from(a.map((byte, i) => byte ^ b[i]!));
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    const data = material.subarray(stripe * key.length, (stripe + 1) * key.length);
    state = diffuse(xor(state, data), hash);
  }
  xor(state, key).copy(material, (stripes - 1) * key.length);
  return material;
}

function diffuse(state: Buffer, hash: HashName): Buffer {
  const size = createHash(hash).digest().length;
  const chunks: Buffer[] = [];
  for (let at = 0, index = 0; at < state.length; at += size, index++) {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(index);
    const chunk = state.subarray(at, at + size);
    chunks.push(createHash(hash).update(number).update(chunk).digest().subarray(0, chunk.length));
  }
  return Buffer.concat(chunks);
}
