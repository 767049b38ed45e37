/**
 * A few variants in place of all, where the format has little to do with what is tested: chosen so that as many pairs
 * of properties as possible (LUKS and compressed, version 2 and a backing file, ...) occur in one image.
 */
import type { Variant } from './variant.js';

/** Values of one property; the first that fits the name of a variant is its value. */
const PROPERTIES: readonly (readonly (readonly [value: string, name: RegExp])[])[] = [
  [
    ['version 2', /v2/],
    ['version 3', /./],
  ],
  [
    ['tiny clusters', /512 B clusters|\b[12] KiB clusters/],
    ['small clusters', /(4|8|16|32) KiB clusters|snapshots/],
    ['large clusters', /(128|256|512) KiB clusters|MiB clusters/],
    ['usual clusters', /./],
  ],
  [
    ['zstd', /zstd/],
    ['zlib', /compressed|packed/],
    ['not compressed', /./],
  ],
  [
    ['extended L2', /extended L2/i],
    ['standard L2', /./],
  ],
  [
    ['data file', /data file/],
    ['no data file', /./],
  ],
  [
    ['LUKS', /LUKS/],
    ['legacy AES', /legacy AES/],
    ['not encrypted', /./],
  ],
  [
    ['raw below', /raw (file|base)/],
    ['a chain below', /chain|nested/],
    ['qcow2 below', /overlay|base|over /],
    ['nothing below', /./],
  ],
  [
    ['a snapshot', /snapshot/],
    ['the disk', /./],
  ],
  [
    ['huge', /TiB|8 GiB/],
    ['odd size', /no multiple|bytes|one sector|size 0|short|longer/],
    ['usual size', /./],
  ],
];

/** `version 2 + LUKS`, for all pairs of properties. */
function pairsOf({ name }: Variant): string[] {
  const values = PROPERTIES.map((property) => property.find(([, pattern]) => pattern.test(name))![0]);
  return values.flatMap((value, index) => values.slice(index + 1).map((other) => `${value} + ${other}`));
}

/** At most `count` of the variants, in their order; each one chosen has the most pairs that no other one has. */
export function pairwise(variants: readonly Variant[], count: number): readonly Variant[] {
  if (count >= variants.length) return variants;
  const missing = new Set(variants.flatMap(pairsOf));
  const chosen = new Set<Variant>();
  const gain = (variant: Variant): number => pairsOf(variant).filter((pair) => missing.has(pair)).length;
  while (chosen.size < count && missing.size > 0) {
    const best = variants.reduce((best, variant) => (gain(variant) > gain(best) ? variant : best));
    chosen.add(best);
    for (const pair of pairsOf(best)) missing.delete(pair);
  }
  return variants.filter((variant) => chosen.has(variant));
}

/** The share of all pairs that occur among the variants which the chosen ones have. */
export function pairsCovered(chosen: readonly Variant[], variants: readonly Variant[]): number {
  return new Set(chosen.flatMap(pairsOf)).size / new Set(variants.flatMap(pairsOf)).size;
}
