/** The judges of the concurrency tests: what they must find, and what they must let pass. */
import { expect } from 'chai';
import { sightingOf } from '../support/contention/contender.js';
import { type Change, contradictions, type Sighting } from '../support/contention/history.js';
import { stampOf, Units, type Value, ZEROS } from '../support/contention/units.js';
import type { Change as HostChange } from '../support/crash/files.js';
import { ReplayedFile } from './crash-replay.js';

describe('the judge of what was read', () => {
  const layout = { clusterSize: 4096, unit: 512, encrypted: false, calm: 0 };
  const units = new Units(layout, Buffer.alloc(8 * 512, 'first'));
  const [one, two] = [stampOf(0, 1), stampOf(1, 1)];

  const change = (value: Value, start: number, end: number): Change => {
    return { first: 3, count: 2, value, start, end };
  };
  const sighting = (bytes: Buffer, start: number, end: number): Sighting =>
    sightingOf(units, bytes, 3, { start, end });
  const seen = (value: Value, start: number, end: number): Sighting =>
    sighting(units.content(value, 3), start, end);
  const problems = (changes: readonly Change[], ...sightings: readonly Sighting[]): number =>
    contradictions(units, changes, sightings).length;

  it('lets the old and the new content pass while a write is under way', () => {
    const changes = [change(one, 10, 20), change(two, 30, 40)];
    expect(problems(changes, seen(one, 31, 39), seen(two, 35, 39))).to.equal(0);
    expect(problems([change(one, 10, 20), change(ZEROS, 15, 25)], seen(one, 30, 31))).to.equal(0);
  });

  it('finds what was overwritten before the read began, and what was not written yet', () => {
    const changes = [change(one, 10, 20), change(two, 30, 40)];
    expect(problems(changes, seen(one, 41, 45))).to.equal(1);
    expect(problems(changes, seen(two, 25, 29))).to.equal(1);
    expect(problems(changes, seen(ZEROS, 41, 45))).to.equal(1);
  });

  it('finds the old content after somebody saw the new one', () => {
    const changes = [change(one, 10, 20), change(two, 30, 40)];
    expect(problems(changes, seen(two, 31, 32), seen(one, 33, 34))).to.equal(1);
  });

  it('finds the content of another place', () => {
    const elsewhere = units.content(one, 4);
    expect(problems([change(one, 10, 20)], sighting(elsewhere, 30, 31))).to.equal(1);
  });

  it('lets a mixture pass only of what is being written', () => {
    const mixture = Buffer.concat([
      units.content(two, 3).subarray(0, 100),
      units.content(one, 3).subarray(100),
    ]);
    const changes = [change(one, 10, 20), change(two, 30, 40)];
    expect(problems(changes, sighting(mixture, 35, 36))).to.equal(0);
    expect(problems(changes, sighting(mixture, 41, 42))).to.equal(1);
    expect(problems([change(one, 10, 20)], sighting(mixture, 15, 16))).to.equal(1);
  });
});

describe('the replay of what several threads wrote', () => {
  const write = (text: string, position: number): HostChange => {
    return { do: 'write', position, bytes: Buffer.from(text) };
  };
  const path = 'image';
  /** A write that a sync reaches, one that was under way when the sync began, and one of the same sector after it. */
  const log = [
    { path, start: 1, applied: 2, end: 3, change: write('a', 0) },
    { path, start: 4, applied: 5, end: 8, change: write('b', 512) },
    { path, start: 6, applied: 9, end: 9, change: undefined },
    { path, start: 10, applied: 11, end: 12, change: write('c', 1) },
  ];

  it('keeps what a sync reached, and no more', () => {
    const file = new ReplayedFile(Buffer.alloc(1024, '.'), log);
    file.advance(8);
    expect(file.afterCut(() => false).toString()).to.equal('.'.repeat(1024));
    file.advance(12);
    const lost = file.afterCut(() => false).toString();
    expect([lost.slice(0, 2), lost[512]]).to.deep.equal(['a.', '.']);
    const kept = file.afterCut(() => true).toString();
    expect([kept.slice(0, 2), kept[512]]).to.deep.equal(['ac', 'b']);
  });
});
