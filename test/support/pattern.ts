/**
 * Deterministic guest data in which every 512-byte sector is different from every other: it begins with its seed
 * and its own number, so data that ends up in the wrong place is recognised at sight in a hex dump.
 */

export const SECTOR_SIZE = 512;

/** `mixed`: every third sector is noise, the others compress well; `noise`: nothing compresses. */
export type PatternKind = 'mixed' | 'noise';

const LABEL_LENGTH = 32;

/** The guest bytes [offset, offset + length) of the pattern with this seed; offset is sector-aligned, length need not be. */
export function patternBytes(
  seed: number,
  offset: number,
  length: number,
  kind: PatternKind = 'mixed',
): Buffer {
  if (offset % SECTOR_SIZE !== 0) throw new Error(`pattern offset ${offset} is not sector-aligned`);
  const sectors = Math.ceil(length / SECTOR_SIZE);
  const bytes = Buffer.alloc(sectors * SECTOR_SIZE);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let index = 0; index < sectors; index++) {
    fillSector(bytes, words, index, seed, offset / SECTOR_SIZE + index, kind);
  }
  return bytes.subarray(0, length);
}

function fillSector(
  bytes: Buffer,
  words: Uint32Array,
  index: number,
  seed: number,
  sector: number,
  kind: PatternKind,
): void {
  const start = index * SECTOR_SIZE;
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul((sector % 0x100000000) + 1, 0x85ebca6b)) | 1;
  if (kind === 'noise' || (state >>> 8) % 3 === 0) {
    for (let word = start / 4; word < (start + SECTOR_SIZE) / 4; word++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[word] = state;
    }
  } else {
    bytes.fill((state >>> 16) & 0xff, start, start + SECTOR_SIZE);
  }
  bytes.write(`seed ${seed} sector ${sector}\n`.padEnd(LABEL_LENGTH, '.'), start, LABEL_LENGTH, 'latin1');
}
