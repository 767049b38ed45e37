/** Feature bits by name: the specification's for the bits it defines, the image's own table for all others. */
import { Qcow2fsError } from '../../errors.js';
import type { Extensions, FeatureName } from './extensions.js';
import { type Header, KNOWN_INCOMPATIBLE } from './header.js';

const SPECIFICATION_NAMES: Readonly<Record<FeatureName['type'], Readonly<Record<number, string>>>> = {
  incompatible: {
    0: 'dirty bit',
    1: 'corrupt bit',
    2: 'external data file',
    3: 'compression type',
    4: 'extended L2 entries',
  },
  compatible: { 0: 'lazy refcounts' },
  autoclear: { 0: 'bitmaps', 1: 'raw external data' },
};

/** The feature name table that the specification's bits make up, for a new image. */
export function specifiedFeatures(): FeatureName[] {
  return Object.entries(SPECIFICATION_NAMES).flatMap(([type, names]) =>
    Object.entries(names).map(([bit, name]) => ({
      type: type as FeatureName['type'],
      bit: Number(bit),
      name,
    })),
  );
}

/** The names of the bits that are set in `mask`, lowest first; `bit N` where nobody names it. */
export function featureNames(
  type: FeatureName['type'],
  mask: bigint,
  names: readonly FeatureName[],
): string[] {
  const found: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((mask & (1n << BigInt(bit))) === 0n) continue;
    const own = names.find((entry) => entry.type === type && entry.bit === bit)?.name;
    found.push(SPECIFICATION_NAMES[type][bit] ?? own ?? `bit ${bit}`);
  }
  return found;
}

/** @throws Qcow2fsError `unsupported` that names each incompatible feature this version does not know */
export function refuseUnknownFeatures(header: Header, extensions: Extensions, path: string): void {
  const unknown = header.incompatibleFeatures & ~KNOWN_INCOMPATIBLE;
  if (unknown === 0n) return;
  const names = featureNames('incompatible', unknown, extensions.featureNames).join(', ');
  throw new Qcow2fsError(
    'unsupported',
    `${path}: the image needs features that this version does not know: ${names} (mask 0x${unknown.toString(16)})`,
  );
}
