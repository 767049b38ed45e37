import { hash as digestOf, randomBytes } from 'node:crypto';
import { DIGEST_BYTES, type HashName } from '../crypto/hash.js';
import { Qcow2fsError } from '../errors.js';

/** Stripes of every key slot. */
export const STRIPES = 4000;

/**
 * The anti-forensic information splitter, merging direction (LUKS1 specification, section 2.4): all stripes but the
 * last are XORed into a state that is diffused after each; the last one is XORed on top.
 */
export function mergeStripes(
  material: Uint8Array,
  keyBytes: number,
  stripes: number,
  hash: HashName,
): Buffer {
  if (keyBytes < 1 || stripes < 1 || material.length < keyBytes * stripes) {
    throw new Qcow2fsError(
      'internal',
      `${material.length} bytes hold no ${stripes} stripes of ${keyBytes} bytes`,
    );
  }
  const state = Buffer.alloc(keyBytes);
  for (let stripe = 0; stripe < stripes; stripe++) {
    if (stripe > 0) diffuse(state, hash);
    const start = stripe * keyBytes;
    for (let i = 0; i < keyBytes; i++) state[i] = state[i]! ^ material[start + i]!;
  }
  return state;
}

/** The splitting direction: random stripes, and a last one that makes them the key. */
export function splitKey(key: Uint8Array, stripes: number, hash: HashName): Buffer {
  const keyBytes = key.length;
  const material = randomBytes(keyBytes * stripes);
  const last = (stripes - 1) * keyBytes;
  material.fill(0, last);
  const state = mergeStripes(material, keyBytes, stripes, hash);
  for (let i = 0; i < keyBytes; i++) material[last + i] = state[i]! ^ key[i]!;
  state.fill(0);
  return material;
}

/**
 * Replaces each digest-sized chunk by the hash of its big-endian index and itself; of the hash of a shorter last
 * chunk only as many bytes are kept.
 */
function diffuse(state: Buffer, hash: HashName): void {
  const digestBytes = DIGEST_BYTES[hash];
  const input = Buffer.alloc(4 + digestBytes);
  for (let start = 0, index = 0; start < state.length; start += digestBytes, index++) {
    const end = Math.min(start + digestBytes, state.length);
    input.writeUInt32BE(index);
    state.copy(input, 4, start, end);
    const digest = digestOf(hash, input.subarray(0, 4 + end - start), 'buffer');
    digest.copy(state, start, 0, end - start);
  }
  input.fill(0);
}
