/** A mistake of one line that a careless engineer could make, and what says which test file should notice it. */

export interface Fault {
  /** Begins with its area. */
  readonly name: string;
  /** Relative to the top of the repository. */
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  /** How the names of test files begin that should fail: below dist/test, most likely first. Some may not exist. */
  readonly suspects: readonly string[];
}

export const AREAS = [
  'format',
  'mapping',
  'reading',
  'writing',
  'commit',
  'crypto',
  'luks',
  'host',
  'fuse',
  'daemon',
  'check',
  'repair',
  'hash',
  'map',
  'cli',
] as const;
export type Area = (typeof AREAS)[number];

export function areaOf({ name }: Pick<Fault, 'name'>): Area | undefined {
  return AREAS.find((area) => name.startsWith(`${area}-`));
}
