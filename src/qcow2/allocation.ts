/** How much of a disk an image stores in which way. */
import { RunKind } from './mapping.js';

/** Guest bytes by the way they are stored. */
export interface Allocation {
  data: number;
  compressed: number;
  zero: number;
  unallocated: number;
  damaged: number;
}

/** What a run counts as. */
export const ALLOCATION_KEY = {
  [RunKind.unallocated]: 'unallocated',
  [RunKind.data]: 'data',
  [RunKind.zero]: 'zero',
  [RunKind.compressed]: 'compressed',
  [RunKind.corrupt]: 'damaged',
} as const;
