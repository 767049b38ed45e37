/**
 * Words of the metadata changed at random, a few at a time: what the reference calls corrupt is found, and what is
 * called repaired the reference calls sound, reading as it did before.
 */

import { cpSync, readFileSync, rmSync } from 'node:fs';
import { expect } from 'chai';
import { check, kindsOf } from '../support/check-request.js';
import {
  fileLength,
  patchNumber,
  readBytes,
  readField,
  readNumber,
  snapshotEntryOffset,
} from '../support/damage.js';
import { refcountBlocks } from '../support/dirty-images.js';
import { convertToRaw, type Image, imagePath } from '../support/images.js';
import { lane } from '../support/lane.js';
import { qemuCheck } from '../support/qemu-check.js';
import { Random } from '../support/random.js';
import { useScratch } from '../support/scratch.js';
import {
  type Base,
  bitmaps,
  compressed,
  extended,
  luks,
  plain,
  refcountsOf,
  snapshots,
  version2,
} from './bases.js';

const ROUNDS = Number(process.env['QCOW2FS_CHECK_ROUNDS'] ?? lane(6, 120, 2));
const OFFSET = 0x00ff_ffff_ffff_fe00n;
/** What the reference does not look for. */
const UNKNOWN = new Set(['zero-flag', 'data-file-offset', 'snapshot', 'luks', 'bitmap', 'metadata-overlap']);

const BASES: Readonly<Record<string, Base>> = {
  plain,
  'version 2': version2,
  compressed,
  'extended L2 entries': extended,
  snapshots,
  bitmaps,
  LUKS: luks,
  'refcounts of 1 bit': refcountsOf(1),
  'refcounts of 16 bits': refcountsOf(16),
};

/** Host offsets of 8-byte words that say where something lies, or count it. */
function wordsOf(path: string): number[] {
  const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
  const words: number[] = [];
  const addTable = (offset: number, entries: number, below: boolean): void => {
    for (let at = offset; at < offset + entries * 8; at += 8) {
      if (at + 8 > fileLength(path)) return;
      const entry = readNumber(path, at, 8);
      if (entry === 0n) continue;
      words.push(at);
      const table = Number(entry & OFFSET);
      if (below && table + clusterSize <= fileLength(path)) addTable(table, clusterSize / 8, false);
    }
  };
  addTable(Number(readField(path, 'l1TableOffset')), Number(readField(path, 'l1Size')), true);
  for (let index = 0; index < Number(readField(path, 'nbSnapshots')); index++) {
    const entry = snapshotEntryOffset(path, index);
    addTable(Number(readNumber(path, entry, 8)), Number(readNumber(path, entry + 8, 4)), true);
  }
  for (const { entry, offset } of refcountBlocks(path)) {
    words.push(entry);
    const block = readBytes(path, offset, clusterSize);
    for (let at = 0; at < clusterSize; at += 8) {
      if (block.readBigUInt64BE(at) !== 0n) words.push(offset + at);
    }
  }
  return [...new Set(words)];
}

function changeWord(path: string, words: readonly number[], random: Random): string {
  const pick = (): number => words[random.below(words.length)]!;
  const at = pick();
  const before = readNumber(path, at, 8);
  const clusters = Math.ceil(fileLength(path) / 4096);
  const choices = [
    () => before ^ (1n << BigInt(random.below(64))),
    () => before ^ (1n << 63n),
    () => 0n,
    () => readNumber(path, pick(), 8),
    () => (before & ~OFFSET) | BigInt(random.below(clusters) * 4096),
    () => before + BigInt(random.below(3) * 512),
  ];
  const after = BigInt.asUintN(64, choices[random.below(choices.length)]!());
  patchNumber(path, at, 8, after);
  return `0x${at.toString(16)}: ${before.toString(16)} -> ${after.toString(16)}`;
}

function contentOf(image: Image): Buffer | undefined {
  try {
    const raw = convertToRaw(image, 'content.raw');
    const content = readFileSync(raw);
    rmSync(raw);
    return content;
  } catch {
    return undefined;
  }
}

describe('qcow2fs check of metadata changed at random', () => {
  const scratch = useScratch();
  for (const [name, base] of Object.entries(BASES)) {
    it(`${name}, ${ROUNDS} times`, async () => {
      const source = base(scratch.subdir());
      const words = wordsOf(imagePath(source));
      for (let seed = 1; seed <= ROUNDS; seed++) {
        const random = new Random(seed);
        const dir = scratch.subdir();
        cpSync(source.dir, dir, { recursive: true });
        const image = { ...source, dir };
        const path = imagePath(image);
        const changes = Array.from({ length: 1 + random.below(3) }, () => changeWord(path, words, random));
        const reference = qemuCheck(image);
        const report = await check(path);
        const said = `seed ${seed}: ${changes.join('; ')}\n${reference.output}\n${JSON.stringify(report.findings.slice(0, 9))}`;
        if (reference.corruptions > 0) expect(report.totals.corruption, said).to.be.above(0);
        else if (reference.status !== 1) {
          expect(
            kindsOf(report).filter((kind) => !UNKNOWN.has(kind) && kind !== 'leak'),
            said,
          ).to.deep.equal([]);
          expect(report.totals.leak, said).to.equal(reference.leaks);
        }
        const content = contentOf(image);
        const repaired = await check(path, 'all');
        const after = qemuCheck(image);
        const outcome = `${said}\nafter: ${after.output}\n${JSON.stringify(repaired.findings.slice(0, 9))}`;
        if (repaired.totals.corruption === 0) {
          expect(repaired.totals.leak, outcome).to.equal(0);
          expect(after.status, outcome).to.equal(0);
        }
        // Contradictions become zeros; and a guest that sees metadata sees it repaired.
        const lossy = kindsOf(report).some((kind) => kind === 'subcluster-bitmap' || kind === 'overlap');
        if (content !== undefined && !lossy) {
          expect(contentOf(image)?.equals(content), `content ${outcome}`).to.equal(true);
        }
        rmSync(dir, { recursive: true });
      }
    });
  }
});
