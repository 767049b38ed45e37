/**
 * Judges what was read of units that many write at once: every unit must be what some order of all operations would
 * have left, in which each operation takes effect at one moment between its beginning and its end.
 */
import { describeValue, INITIAL, MIXED, type Units, type Value, ZEROS } from './units.js';

const CIPHER_BLOCK = 16;
const MAX_TEARS = 4;

/** Nanoseconds of a clock that all threads and processes share. */
export function now(): number {
  return Number(process.hrtime.bigint());
}

interface Timed {
  readonly start: number;
  readonly end: number;
}

/** One write or erasure of whole units. */
export interface Change extends Timed {
  readonly first: number;
  readonly count: number;
  readonly value: Value;
}

/** One read of whole units. */
export interface Sighting extends Timed {
  readonly first: number;
  readonly values: readonly Value[];
  /** The bytes of the units that are `MIXED`. */
  readonly mixed: ReadonlyMap<number, Buffer>;
}

interface Step extends Timed {
  readonly value: Value;
  /** By then it has certainly taken effect: it ended, or somebody saw it. */
  effective: number;
}

/** @returns what no order explains */
export function contradictions(
  units: Units,
  changes: readonly Change[],
  sightings: readonly Sighting[],
): string[] {
  const steps = new Map<number, Step[]>();
  const stepsOf = (unit: number): Step[] => {
    const known = steps.get(unit);
    if (known !== undefined) return known;
    const value = units.identify(units.content(INITIAL, unit), 0, unit);
    const begin = Number.NEGATIVE_INFINITY;
    const fresh = [{ value, start: begin, end: begin, effective: begin }];
    steps.set(unit, fresh);
    return fresh;
  };
  for (const { first, count, value, start, end } of changes) {
    for (let unit = first; unit < first + count; unit++) {
      stepsOf(unit).push({ value, start, end, effective: end });
    }
  }
  forEachUnit(sightings, (unit, value, { end }) => {
    // Zeros may come from any of many.
    if (value === ZEROS || value === MIXED) return;
    const seen = stepsOf(unit).find((step) => step.value === value);
    if (seen !== undefined) seen.effective = Math.min(seen.effective, end);
  });
  const problems: string[] = [];
  forEachUnit(sightings, (unit, value, sighting) => {
    const possible = possibleSteps(stepsOf(unit), sighting);
    if (possible.some((step) => step.value === value)) return;
    const bytes = sighting.mixed.get(unit);
    if (bytes !== undefined && isTorn(units, unit, bytes, possible, sighting)) return;
    problems.push(describe(unit, value, possible, stepsOf(unit)));
  });
  return problems;
}

function forEachUnit(
  sightings: readonly Sighting[],
  visit: (unit: number, value: Value, sighting: Sighting) => void,
): void {
  for (const sighting of sightings) {
    for (const [index, value] of sighting.values.entries()) visit(sighting.first + index, value, sighting);
  }
}

/** Begun before the read ended, and not certainly overwritten before it began. */
function possibleSteps(steps: readonly Step[], { start, end }: Timed): Step[] {
  let latest = Number.NEGATIVE_INFINITY;
  for (const step of steps) if (step.effective < start) latest = Math.max(latest, step.start);
  return steps.filter((step) => step.start < end && step.effective >= latest);
}

/**
 * A host may show a read a part of a write that is under way: each byte is old or new, but nothing else. Where it tears
 * an encrypted sector, a cipher block is neither.
 */
function isTorn(
  units: Units,
  unit: number,
  bytes: Buffer,
  possible: readonly Step[],
  { start }: Timed,
): boolean {
  if (!possible.some((step) => step.end > start)) return false;
  const contents = possible.map(({ value }) => units.content(value, unit));
  const strange = new Set<number>();
  for (const [at, byte] of bytes.entries()) {
    if (!contents.some((content) => content[at] === byte)) strange.add(Math.floor(at / CIPHER_BLOCK));
  }
  return strange.size <= (units.encrypted ? MAX_TEARS : 0);
}

function describe(unit: number, value: Value, possible: readonly Step[], steps: readonly Step[]): string {
  const wanted = [...new Set(possible.map((step) => describeValue(step.value)))].join(' or ');
  const known = value === MIXED || steps.some((step) => step.value === value);
  return `unit ${unit} reads as ${describeValue(value)}${known ? '' : ', never written there,'} instead of ${wanted}`;
}
