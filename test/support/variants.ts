/** The image variants of the conformance suite: every feature of the format that the reference tools can write. */

import type { Variant } from './variant.js';
import { chainVariants } from './variants-chains.js';
import { encryptedVariants } from './variants-encrypted.js';
import { plainVariants } from './variants-plain.js';

export type { BuiltImage, Variant } from './variant.js';

export const variants: readonly Variant[] = [...plainVariants, ...chainVariants, ...encryptedVariants];

const named = (pattern: RegExp) => (variant: Variant) => pattern.test(variant.name);
const isHuge = named(/TiB|8 GiB/);
const takesNoWrites = named(/snapshot.* by |snapshot (smaller|larger|of|overwritten)|marked corrupt/);

/** Every variant is one of these: too large to be compared as a whole; a snapshot, or marked corrupt; all the others. */
export const hugeVariants = variants.filter(isHuge);
export const unwritableVariants = variants.filter(takesNoWrites);
export const writableVariants = variants.filter((variant) => !isHuge(variant) && !takesNoWrites(variant));
