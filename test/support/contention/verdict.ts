/** Judges a disk that many wrote at once, when all have ended. */
import fs from 'node:fs';
import { checkImage, checkSnapshot, convertToRaw } from '../images.js';
import { type Report, sightingOf } from './contender.js';
import { contradictions, now } from './history.js';
import type { ContendedImage } from './images.js';
import { calmRange, sharedRanges, stripesFor } from './layout.js';
import { Units } from './units.js';

const SHOWN = 5;

/**
 * @param seen what the disk showed at the end through the program under test
 * @throws Error unless the reference finds the image clean, reads the same, and everything that anybody read makes sense
 */
export function expectConsistent(contended: ContendedImage, reports: readonly Report[], seen: Buffer): void {
  const { image, layout, initial, snapshot } = contended;
  const units = new Units(layout, fs.readFileSync(initial));
  const end = now();
  const problems = wrongStripes(reports, seen);
  const last = [...sharedRanges(layout), calmRange(layout)].map(({ offset, length }) =>
    sightingOf(units, seen.subarray(offset, offset + length), offset / layout.unit, { start: end, end }),
  );
  const changes = reports.flatMap((report) => report.changes);
  const sightings = reports.flatMap((report) => report.sightings);
  problems.push(...contradictions(units, changes, [...sightings, ...last]));
  if (problems.length > 0)
    throw new Error(`${problems.length} wrong: ${problems.slice(0, SHOWN).join('; ')}`);
  checkImage(image);
  const read = fs.readFileSync(convertToRaw(image, 'read.raw'));
  if (!read.equals(seen)) throw new Error('the reference reads something else');
  if (snapshot !== undefined) checkSnapshot(image, snapshot);
}

/** Nobody but its owner writes a stripe. */
function wrongStripes(reports: readonly Report[], seen: Buffer): string[] {
  const problems: string[] = [];
  for (const [contender, { shadow }] of reports.entries()) {
    for (const { offset, length } of stripesFor(contender, reports.length).flat()) {
      if (shadow.compare(seen, offset, offset + length, offset, offset + length) === 0) continue;
      let wrong = offset;
      while (shadow[wrong] === seen[wrong]) wrong++;
      problems.push(`byte ${wrong} is ${seen[wrong]} at the end, but ${shadow[wrong]} was written`);
    }
  }
  return problems;
}
