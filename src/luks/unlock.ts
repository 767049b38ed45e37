/** From a secret to the master key (LUKS1 specification, section 3.2, "Master key recovery"). */

import { pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { type HashName, hashNamed } from '../crypto/hash.js';
import { createSectorCipher, type SectorCipherParameters } from '../crypto/sector-cipher.js';
import { Qcow2fsError } from '../errors.js';
import { mergeStripes, STRIPES } from './af-splitter.js';
import { cipherParameters } from './cipher.js';
import type { Passphrase } from './create.js';
import { type KeySlot, LUKS_HEADER_BYTES, type LuksHeader, SECTOR_BYTES } from './header.js';

/** The most that PBKDF2 takes here (node:crypto). */
const MAX_ITERATIONS = 2 ** 31 - 1;
/** PBKDF2 iterations that opening a chain may take, unless the user says otherwise: minutes. */
const DEFAULT_MAX_ITERATIONS = 100_000_000;
const NEWLINE = 0x0a;

/**
 * Reads `length` bytes, all of them, at `offset` from the start of the LUKS header.
 * @throws Qcow2fsError when they lie outside the header; the next key slot is tried then
 */
export type ReadKeyMaterial = (offset: number, length: number) => Buffer;

/** What all images of a chain may spend together: each of them can ask for much. */
export class IterationBudget {
  readonly limit: number;
  #left: number;

  constructor(limit = DEFAULT_MAX_ITERATIONS) {
    this.limit = limit;
    this.#left = limit;
  }

  /** @returns false when there is not so much left; nothing is spent then */
  spend(iterations: number): boolean {
    if (iterations > this.#left) return false;
    this.#left -= iterations;
    return true;
  }
}

interface Volume {
  readonly header: LuksHeader;
  readonly parameters: SectorCipherParameters;
  readonly hash: HashName;
}

interface UsableSlot {
  readonly index: number;
  readonly iterations: number;
  readonly salt: Buffer;
  /** Encrypted; padded with zeros to whole sectors. */
  readonly material: Buffer;
}

/** A master key, and what opened its slot. */
export interface Unlocked extends Passphrase {
  readonly masterKey: Uint8Array;
}

/**
 * The master key. Slots are tried in their order, damaged ones are passed over, and so are those that would take the
 * key derivation beyond a limit: a header can ask for four billion iterations eight times.
 *
 * @throws Qcow2fsError 'secret' when the secret opens no slot; 'unsupported' or 'format' as `cipherParameters`;
 *   'corrupt' when no slot could be tried
 */
export function unlock(
  header: LuksHeader,
  readKeyMaterial: ReadKeyMaterial,
  secret: Uint8Array,
  budget = new IterationBudget(),
): Unlocked {
  const volume = { header, parameters: cipherParameters(header), hash: hashNamed(header.hashSpec) };
  checkIterations(header.masterKeyDigestIterations, 'LUKS header: the master key digest');

  const { slots, problems } = usableSlots(header, readKeyMaterial);
  const tried = new Set<UsableSlot>();
  for (const candidate of candidates(secret)) {
    for (const slot of slots) {
      const cost = slot.iterations + header.masterKeyDigestIterations;
      if (!budget.spend(cost)) {
        problems.push(tooCostly(slot.index, cost, budget.limit));
        continue;
      }
      tried.add(slot);
      const masterKey = openSlot(volume, slot, candidate);
      if (masterKey !== undefined) return { masterKey, secret: candidate, iterations: slot.iterations };
    }
  }
  throw whyLocked(tried.size, problems, secret);
}

function tooCostly(slot: number, cost: number, limit: number): Qcow2fsError {
  const what = `it takes ${cost} PBKDF2 iterations more, and ${limit} are allowed`;
  return new Qcow2fsError(
    'secret',
    `LUKS key slot ${slot}: ${what}; if you trust the image: --max-iterations N`,
  );
}

/** QEMU takes a secret up to its first NUL byte, cryptsetup all of it. */
function candidates(secret: Uint8Array): Uint8Array[] {
  const nul = secret.indexOf(0);
  return nul === -1 ? [secret] : [secret, secret.subarray(0, nul)];
}

function usableSlots(
  header: LuksHeader,
  readKeyMaterial: ReadKeyMaterial,
): { slots: UsableSlot[]; problems: Qcow2fsError[] } {
  const slots: UsableSlot[] = [];
  const problems: Qcow2fsError[] = [];
  for (const [index, slot] of header.keySlots.entries()) {
    if (slot.state === 'disabled') continue;
    try {
      checkSlot(slot);
      slots.push({ ...slot, index, material: readMaterial(slot, header.keyBytes, readKeyMaterial) });
    } catch (error) {
      if (!(error instanceof Qcow2fsError)) throw error;
      problems.push(
        new Qcow2fsError(error.kind, `LUKS key slot ${index}: ${error.message}`, { cause: error }),
      );
    }
  }
  return { slots, problems };
}

function checkSlot(slot: KeySlot): void {
  if (slot.state === 'damaged') throw new Qcow2fsError('corrupt', 'neither active nor disabled');
  if (slot.stripes !== STRIPES) {
    throw new Qcow2fsError('corrupt', `${slot.stripes} stripes instead of ${STRIPES}`);
  }
  checkIterations(slot.iterations, 'it');
  if (slot.keyMaterialOffset < LUKS_HEADER_BYTES) {
    throw new Qcow2fsError('corrupt', `its key material at ${slot.keyMaterialOffset} overlaps the header`);
  }
}

function checkIterations(iterations: number, what: string): void {
  if (iterations < 1 || iterations > MAX_ITERATIONS) {
    throw new Qcow2fsError('corrupt', `${what} has ${iterations} PBKDF2 iterations`);
  }
}

/** The last sector may be a part of one (AES-192 in CBC): no block of it depends on the bytes after. */
function readMaterial(slot: KeySlot, keyBytes: number, readKeyMaterial: ReadKeyMaterial): Buffer {
  const length = keyBytes * STRIPES;
  const bytes = readKeyMaterial(slot.keyMaterialOffset, length);
  if (bytes.length !== length) {
    throw new Qcow2fsError('corrupt', `its key material ends after ${bytes.length} of ${length} bytes`);
  }
  const material = Buffer.alloc(Math.ceil(length / SECTOR_BYTES) * SECTOR_BYTES);
  bytes.copy(material);
  return material;
}

/** @returns undefined when the secret does not open the slot */
function openSlot(volume: Volume, slot: UsableSlot, secret: Uint8Array): Buffer | undefined {
  const { header, parameters, hash } = volume;
  const slotKey = pbkdf2Sync(secret, slot.salt, slot.iterations, header.keyBytes, hash);
  const material = Buffer.from(slot.material);
  try {
    createSectorCipher({ ...parameters, key: slotKey }).decrypt(material, 0, material.length, 0);
    const masterKey = mergeStripes(material, header.keyBytes, STRIPES, hash);
    if (isMasterKey(volume, masterKey)) return masterKey;
    masterKey.fill(0);
    return undefined;
  } finally {
    slotKey.fill(0);
    material.fill(0);
  }
}

function isMasterKey({ header, hash }: Volume, key: Buffer): boolean {
  const { masterKeyDigest, masterKeyDigestSalt, masterKeyDigestIterations } = header;
  const digest = pbkdf2Sync(
    key,
    masterKeyDigestSalt,
    masterKeyDigestIterations,
    masterKeyDigest.length,
    hash,
  );
  return timingSafeEqual(digest, masterKeyDigest);
}

function whyLocked(tried: number, problems: readonly Qcow2fsError[], secret: Uint8Array): Qcow2fsError {
  const [first] = problems;
  const damage = problems.map((problem) => problem.message).join('; ');
  if (tried === 0) {
    return first === undefined
      ? new Qcow2fsError('secret', 'the LUKS header has no active key slot: no secret opens it any more')
      : new Qcow2fsError(first.kind, damage, { cause: first });
  }
  const reasons = ['wrong secret: no key slot opens with it'];
  if (secret.at(-1) === NEWLINE) {
    reasons.push('a trailing newline in the secret file is part of the secret: create it with printf %s');
  }
  if (damage !== '') reasons.push(`not tried: ${damage}`);
  return new Qcow2fsError('secret', reasons.join('; '));
}
