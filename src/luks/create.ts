/**
 * Makes a LUKS header for a new master key (LUKS1 specification, sections 3.1 and 3.3: initialisation, adding a
 * password), laid out as QEMU does (crypto/block-luks.c): the key slots behind the header, each at a multiple of 4 KiB.
 */
import { pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto';
import { type HashName, hashNamed } from '../crypto/hash.js';
import { createSectorCipher } from '../crypto/sector-cipher.js';
import { STRIPES, splitKey } from './af-splitter.js';
import { cipherParameters } from './cipher.js';
import { encodeLuksHeader, KEY_SLOTS, type KeySlot, type LuksHeader, SECTOR_BYTES } from './header.js';

const ALIGNMENT = 4096;
const SALT_BYTES = 32;
const DIGEST_BYTES = 20;
/** The least that QEMU takes. */
const MIN_ITERATIONS = 1000;
/** The digest of a random key takes a fraction of the iterations of a slot, as in QEMU: no dictionary has it. */
const DIGEST_FRACTION = 8;

/** What a header says about its cipher. */
export type CipherWords = Pick<LuksHeader, 'cipherName' | 'cipherMode' | 'hashSpec' | 'keyBytes'>;

export interface Passphrase {
  readonly secret: Uint8Array;
  /** Of PBKDF2. */
  readonly iterations: number;
}

/**
 * @param masterKey of `words.keyBytes`
 * @param passphrase of the first key slot; without one nothing in the header leads to the key
 * @returns the header with the room of all key slots
 * @throws Qcow2fsError as `cipherParameters`
 */
export function createLuksHeader(
  words: CipherWords,
  masterKey: Uint8Array,
  passphrase: Passphrase | undefined,
): Buffer {
  const hash = hashNamed(words.hashSpec);
  const slotBytes = Math.ceil((words.keyBytes * STRIPES) / ALIGNMENT) * ALIGNMENT;
  const iterations = Math.max(MIN_ITERATIONS, passphrase?.iterations ?? 0);
  const digestIterations = Math.max(MIN_ITERATIONS, Math.floor(iterations / DIGEST_FRACTION));
  const digestSalt = randomBytes(SALT_BYTES);
  const unused: Omit<KeySlot, 'keyMaterialOffset'> = {
    ...{ state: 'disabled', active: false, stripes: STRIPES },
    ...{ iterations: 0, salt: Buffer.alloc(SALT_BYTES) },
  };
  const used = {
    ...unused,
    state: 'active',
    active: true,
    iterations,
    salt: randomBytes(SALT_BYTES),
  } as const;
  const keySlots = Array.from({ length: KEY_SLOTS }, (_, index) => ({
    ...(index === 0 && passphrase !== undefined ? used : unused),
    keyMaterialOffset: ALIGNMENT + index * slotBytes,
  }));
  const volume = Buffer.alloc(ALIGNMENT + KEY_SLOTS * slotBytes);
  encodeLuksHeader({
    ...words,
    version: 1,
    payloadOffset: volume.length,
    masterKeyDigest: pbkdf2Sync(masterKey, digestSalt, digestIterations, DIGEST_BYTES, hash),
    masterKeyDigestSalt: digestSalt,
    masterKeyDigestIterations: digestIterations,
    uuid: randomUUID(),
    keySlots,
  }).copy(volume);
  if (passphrase !== undefined) {
    sealKey(words, hash, masterKey, passphrase.secret, used).copy(volume, keySlots[0]!.keyMaterialOffset);
  }
  return volume;
}

/** The key material of a slot. */
function sealKey(
  words: CipherWords,
  hash: HashName,
  masterKey: Uint8Array,
  secret: Uint8Array,
  { salt, iterations }: Pick<KeySlot, 'salt' | 'iterations'>,
): Buffer {
  const slotKey = pbkdf2Sync(secret, salt, iterations, words.keyBytes, hash);
  const stripes = splitKey(masterKey, STRIPES, hash);
  const material = Buffer.alloc(Math.ceil(stripes.length / SECTOR_BYTES) * SECTOR_BYTES);
  stripes.copy(material);
  createSectorCipher({ ...cipherParameters(words), key: slotKey }).encrypt(material, 0, material.length, 0);
  slotKey.fill(0);
  stripes.fill(0);
  return material;
}
