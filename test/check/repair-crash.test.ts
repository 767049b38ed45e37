/**
 * A repair that is cut off at any write or sync: the image is no worse than before, and the next repair mends it. With
 * the reference as the judge of both.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { checkImage } from '../../src/qcow2/check/check.js';
import { Findings } from '../../src/qcow2/check/finding.js';
import { markSound, type RepairLevel, repairImage } from '../../src/qcow2/repair/repair.js';
import { check } from '../support/check-request.js';
import { Crash, CrashStorage } from '../support/crash/storage.js';
import { convertToRaw, imagePath } from '../support/images.js';
import { lane } from '../support/lane.js';
import { qemuCheck } from '../support/qemu-check.js';
import { Random } from '../support/random.js';
import { useScratch } from '../support/scratch.js';
import { DAMAGE } from './damage.js';

const SCENES: readonly (keyof typeof DAMAGE)[] = [
  'a refcount of 0 of a data cluster',
  'a refcount of 1 of a cluster that a snapshot shares',
  'a refcount block full of ones',
  'a refcount table full of zeros',
  'a refcount table on a data cluster',
  'all COPIED flags wrong',
  'reserved bits in an L2 entry',
  'two entries that name one data cluster',
  'snapshots that do not tell their disk size',
  'a data cluster that the refcount table does not reach',
  'a data cluster on the refcount table',
];
const SCENES_OF_LEAKS: readonly (keyof typeof DAMAGE)[] = [
  'a leaked cluster',
  'a refcount of a data cluster that is too high',
  'refcounts of 2 of many data clusters',
];

const OUTCOMES: Readonly<Record<string, (random: Random) => Parameters<CrashStorage['afterCrash']>[0]>> = {
  'all that was written is kept': () => () => true,
  'nothing unsynced is kept': () => () => false,
  'some sectors are kept': (random) => () => random.below(2) === 0,
};

/** As `check --repair` does, on a host that may die. */
async function repair(storage: CrashStorage, level: RepairLevel): Promise<void> {
  const before = new Findings();
  await checkImage(storage, before);
  repairImage(storage, before, level);
  if (level === 'leaks') return;
  const after = new Findings();
  await checkImage(storage, after);
  if (after.totals.corruption === 0) markSound(storage);
}

describe('a repair that is cut off', () => {
  const scratch = useScratch();
  const outcomes = Object.entries(OUTCOMES);
  const scenes = [
    ...SCENES.map((scene) => ({ scene, level: 'all' }) as const),
    ...SCENES_OF_LEAKS.map((scene) => ({ scene, level: 'leaks' }) as const),
  ];
  for (const { scene, level } of scenes) {
    for (const [outcome, keepsOf] of lane(outcomes, outcomes, outcomes.slice(-1))) {
      it(`${scene}: ${level}; ${outcome}`, async () => {
        const { base, damage } = DAMAGE[scene]!;
        const image = base(scratch.subdir());
        const path = imagePath(image);
        damage(path);
        const damaged = readFileSync(path);
        const content = readFileSync(convertToRaw(image));
        const random = new Random(1);
        let crashes = 0;
        for (; ; crashes++) {
          const storage = new CrashStorage(path, damaged);
          storage.crashAt = crashes + 1;
          try {
            await repair(storage, level);
            break;
          } catch (error) {
            if (!(error instanceof Crash)) throw error;
          }
          writeFileSync(path, storage.afterCrash(keepsOf(random)));
          expect(readFileSync(convertToRaw(image)).equals(content), `cut at ${crashes + 1}`).to.equal(true);
          const report = await check(path, level);
          expect(report.totals.corruption, JSON.stringify(report.findings)).to.equal(0);
          const reference = qemuCheck(image);
          expect(reference.status, reference.output).to.equal(0);
          expect(readFileSync(convertToRaw(image)).equals(content), `mended after ${crashes + 1}`).to.equal(
            true,
          );
        }
        expect(crashes).to.be.above(1);
      });
    }
  }
});
