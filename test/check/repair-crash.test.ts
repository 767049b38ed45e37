/**
 * A repair that is cut off at any write or sync: the image is no worse than before, and the next repair mends it. With
 * the reference as the judge of both.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { checkImage } from '../../src/qcow2/check/check.js';
import { Findings } from '../../src/qcow2/check/finding.js';
import { readImage } from '../../src/qcow2/image.js';
import { prepareForWriting } from '../../src/qcow2/prepare.js';
import { markSound, type RepairLevel, repairImage } from '../../src/qcow2/repair/repair.js';
import { check } from '../support/check-request.js';
import { Crash, CrashStorage } from '../support/crash/storage.js';
import { convertToRaw, type Image, imagePath } from '../support/images.js';
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

/** Those whose repairs write in the most steps. */
const KILLED: readonly (keyof typeof DAMAGE)[] = [
  'snapshots that do not tell their disk size',
  'a data cluster on the refcount table',
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
          if (await finishes(repair(storage, level))) break;
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

  for (const { scene, level } of scenes.filter(({ scene }) => lane(KILLED.includes(scene), true))) {
    it(`${scene}: ${level}; killed, started again, and then the power goes`, async () => {
      const { base, damage } = DAMAGE[scene]!;
      const image = base(scratch.subdir());
      const path = imagePath(image);
      damage(path);
      const content = readFileSync(convertToRaw(image));
      const before = countedTooLow(image);
      await killThenCut(
        path,
        (storage) => repair(storage, level),
        async (where) => {
          expect(readFileSync(convertToRaw(image)).equals(content), where).to.equal(true);
          expect(countedTooLow(image), where).to.be.at.most(before);
          const { totals, findings } = await check(path, level);
          expect(totals.corruption, `${where}: ${JSON.stringify(findings)}`).to.equal(0);
          const reference = qemuCheck(image);
          expect(reference.status, `${where}: ${reference.output.slice(0, 400)}`).to.equal(0);
        },
      );
    });
  }

  for (const scene of ['a refcount of 0 of a data cluster', 'a refcount table full of zeros'] as const) {
    it(`${scene}: an image that was not closed properly is called so until it is repaired`, async () => {
      const { base, damage } = DAMAGE[scene]!;
      const image = base(scratch.subdir());
      const path = imagePath(image);
      damage(path);
      const dirty = readFileSync(path);
      // Incompatible feature bit 0, and an autoclear bit that nothing knows.
      dirty[79]! |= 1;
      dirty[88]! |= 0x80;
      writeFileSync(path, dirty);
      await killThenCut(
        path,
        async (storage) => void prepareForWriting(readImage(storage)),
        async (where) => {
          const left = readFileSync(path);
          if ((left[79]! & 1) !== 0) return;
          expect(left[88]! & 0x80, `${where}: autoclear`).to.equal(0);
          const { status, output } = qemuCheck(image);
          expect(status, `${where}: ${output.slice(0, 400)}`).to.equal(0);
        },
      );
    });
  }
});

describe('an image with clusters that are not counted', () => {
  const scratch = useScratch();
  for (const scene of ['a refcount of 0 of a data cluster', 'a refcount table full of zeros'] as const) {
    it(`${scene}: opened for writing, then killed, opened again, and then the power goes`, async () => {
      const { base, damage } = DAMAGE[scene]!;
      const image = base(scratch.subdir());
      const path = imagePath(image);
      damage(path);
      const content = readFileSync(convertToRaw(image));
      const before = countedTooLow(image);
      expect(before).to.be.above(0);
      await killThenCut(
        path,
        async (storage) => void prepareForWriting(readImage(storage)),
        async (where) => {
          expect(readFileSync(convertToRaw(image)).equals(content), where).to.equal(true);
          expect(countedTooLow(image), where).to.be.at.most(before);
        },
      );
      const storage = new CrashStorage(path);
      prepareForWriting(readImage(storage));
      writeFileSync(path, storage.content);
      expect(qemuCheck(image).status).to.equal(0);
    });
  }
});

/**
 * A process is killed at each call; the next one, which sees all that the first one wrote, loses the power at each call.
 * Only what was written last got to the disk in time.
 * @param judge finds what is left at `path`
 */
async function killThenCut(
  path: string,
  use: (storage: CrashStorage) => Promise<void>,
  judge: (where: string) => Promise<void>,
): Promise<void> {
  const before = readFileSync(path);
  const seen = new Set<string>();
  for (let killedAt = 1; ; killedAt++) {
    for (let cutAt = killedAt + 1; ; cutAt++) {
      const storage = new CrashStorage(path, before);
      storage.crashAt = killedAt;
      if (await finishes(use(storage))) return;
      storage.crashAt = cutAt;
      if (await finishes(use(storage))) break;
      const left = storage.afterCrash((index, count) => index === count - 1);
      const key = left.toString('latin1');
      if (seen.has(key)) continue;
      seen.add(key);
      writeFileSync(path, left);
      await judge(`killed at ${killedAt}, cut at ${cutAt}`);
    }
  }
}

/** Clusters that may be overwritten. Flags are wrong for a moment, whichever comes first, they or the counts. */
function countedTooLow(image: Image): number {
  return qemuCheck(image).output.match(/^ERROR cluster \d+ refcount=/gm)?.length ?? 0;
}

/** @returns false when the host died */
async function finishes(use: Promise<void>): Promise<boolean> {
  try {
    await use;
    return true;
  } catch (error) {
    if (!(error instanceof Crash)) throw error;
    return false;
  }
}
