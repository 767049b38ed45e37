/** Damages images where it matters: a field of a structure gets a value that is worth trying. */
import { LUKS_FIELDS, SLOT_FIELDS, SLOT_SIZE, SLOTS_OFFSET } from '../support/damage-luks.js';
import type { Random } from '../support/random.js';
import { applyEdits, type Edit, type ImageInput, MAX_SIZE, SESSIONS } from './input.js';
import { AREAS, findLayout, type Layout } from './layout.js';
import { rewriteExtensions } from './names.js';
import type { Seed } from './seeds.js';
import { decode, encode, interestingValue } from './values.js';

const MAX_EDITS = 24;
const LUKS_MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');
/**
 * The time that a key takes grows with its iterations: more of them are no news, and would be half of all the time.
 * QCOW2FS_FUZZ_ITERATIONS sets another limit; 0 is none.
 */
const MAX_ITERATIONS = Number(process.env['QCOW2FS_FUZZ_ITERATIONS'] ?? 100_000) || 2 ** 32;

/** @param other an input of the corpus that may lend its edits */
export function mutateImage(
  random: Random,
  input: ImageInput,
  seed: Seed,
  other: ImageInput | undefined,
): ImageInput {
  let edits = [...input.edits];
  if (edits.length > 0 && random.below(8) === 0) edits.splice(random.below(edits.length), 1);
  if (other?.seed === input.seed && other.file === input.file && random.below(6) === 0) {
    edits.push(...other.edits);
  }
  const pristine = seed.contents[input.file]!;
  const changes = 1 + (random.below(2) === 0 ? 0 : random.below(4));
  for (let change = 0; change < changes; change++) {
    const { bytes } = applyEdits(pristine, edits);
    edits.push(...oneChange(random, bytes, pristine));
  }
  while (edits.length > MAX_EDITS) edits.splice(random.below(edits.length), 1);
  edits = [...edits, ...limitIterations(applyEdits(pristine, edits).bytes)];
  const session = random.below(6) === 0 ? random.pick(SESSIONS) : input.session;
  return { ...input, session, edits };
}

function oneChange(random: Random, bytes: Buffer, pristine: Buffer): readonly Edit[] {
  const layout = findLayout(bytes);
  const chance = random.below(100);
  if (chance < 68) return changeField(random, bytes, layout, findLayout(pristine));
  if (chance < 76) return randomBytes(random, bytes, layout);
  if (chance < 82) return copyStructure(random, layout);
  if (chance < 87) return cut(random, bytes, layout);
  if (chance < 89) return grow(random, bytes);
  return rewriteExtensions(random, bytes, layout.clusterSize);
}

/** A structure that the damage hides is looked for where it once was. */
function changeField(random: Random, bytes: Buffer, now: Layout, before: Layout): readonly Edit[] {
  const areas = AREAS.filter((area) => now.fields[area].length + before.fields[area].length > 0);
  if (areas.length === 0) return [];
  const area = random.pick(areas);
  const fields = now.fields[area].length > 0 ? now.fields[area] : before.fields[area];
  const { at, width } = random.pick(fields);
  const old = decode(bytes, at, width);
  const value = interestingValue(random, width, old, now.offsets);
  return [{ do: 'set', at, bytes: encode(value, width) }];
}

function randomBytes(random: Random, bytes: Buffer, { offsets, clusterSize }: Layout): readonly Edit[] {
  const at = random.pick(offsets) + random.below(random.pick([16, 128, clusterSize]));
  if (at >= bytes.length) return [];
  return [{ do: 'set', at, bytes: random.bytes(1 + random.below(16)).toString('hex') }];
}

/** Puts what looks right where something else belongs. */
function copyStructure(random: Random, { offsets, clusterSize }: Layout): readonly Edit[] {
  const length = random.pick([8, 64, 512, clusterSize]);
  return [{ do: 'copy', from: random.pick(offsets), to: random.pick(offsets), length }];
}

function cut(random: Random, bytes: Buffer, { offsets }: Layout): readonly Edit[] {
  const place = random.below(2) === 0 ? random.pick(offsets) : random.below(bytes.length + 1);
  return [{ do: 'cut', length: Math.max(0, place + random.pick([0, 1, -1, 8, 104, 511])) }];
}

/** Sparse, so that a table of 64 MiB may be there. */
function grow(random: Random, bytes: Buffer): readonly Edit[] {
  const more = random.pick([1, 511, 4096, 65536, 1024 * 1024, 16 * 1024 * 1024, MAX_SIZE]);
  return [{ do: 'grow', length: bytes.length + more }];
}

function limitIterations(bytes: Buffer): readonly Edit[] {
  const edits: Edit[] = [];
  for (let at = bytes.indexOf(LUKS_MAGIC); at !== -1; at = bytes.indexOf(LUKS_MAGIC, at + 1)) {
    const places: number[] = [LUKS_FIELDS.masterKeyIterations[0]];
    for (let slot = 0; slot < 8; slot++)
      places.push(SLOTS_OFFSET + slot * SLOT_SIZE + SLOT_FIELDS.iterations[0]);
    for (const place of places) {
      if (decode(bytes, at + place, 4) <= MAX_ITERATIONS) continue;
      edits.push({ do: 'set', at: at + place, bytes: encode(BigInt(MAX_ITERATIONS), 4) });
    }
  }
  return edits;
}
