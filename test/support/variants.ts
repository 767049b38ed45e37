/** The image variants of the conformance suite: every feature of the format that the reference tools can write. */

import type { Variant } from './variant.js';
import { chainVariants } from './variants-chains.js';
import { encryptedVariants } from './variants-encrypted.js';
import { plainVariants } from './variants-plain.js';

export type { BuiltImage, Variant } from './variant.js';

export const variants: readonly Variant[] = [...plainVariants, ...chainVariants, ...encryptedVariants];
