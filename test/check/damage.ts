/** Kinds of damage, each with what a check must make of it. The reference is asked in the test. */

import { lane } from '../support/lane.js';
import { flags } from './damage/flags.js';
import { others } from './damage/others.js';
import { places } from './damage/places.js';
import { refcounts } from './damage/refcounts.js';
import { subclusters } from './damage/subclusters.js';
import type { Damage } from './damage/surgery.js';

export const DAMAGE: Readonly<Record<string, Damage>> = {
  ...refcounts,
  ...flags,
  ...places,
  ...subclusters,
  ...others,
};

/** All of them, by their names; make check tries every fourth. */
export const TRIED = Object.entries(DAMAGE).filter((_, index) => index % lane(1, 1, 4) === 0);
