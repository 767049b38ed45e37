/** `qcow2fs map` against `qemu-img map`, over every image that the reference tools can write. */

import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type Image, imagePath, keyArgs, openArgs, qemuImg } from '../support/images.js';
import { expectQcow2fs } from '../support/qcow2fs.js';
import { comparableRuns, type QemuRun, qemuMap } from '../support/qemu-map.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';
import { variants } from '../support/variants.js';

interface Envelope {
  readonly size: number;
  readonly layers: readonly { readonly file: string; readonly depth: number }[];
  readonly extents: readonly (QemuRun & { readonly shared: boolean })[];
  readonly totals: readonly Record<string, number>[];
}

/** A copy beside the image, without holes: where it has any, QEMU may take clusters for zeros, or not any more. */
function fullCopy(source: Image, prefix: string): Image {
  const copy = { ...source, name: path.join(path.dirname(source.name), prefix + path.basename(source.name)) };
  run('cp', ['--sparse=never', imagePath(source), imagePath(copy)]);
  return copy;
}

/** Makes the snapshot the disk. */
function revert(image: Image, snapshot: string): Image {
  const tail = image.openOptions.length === 0 ? [image.name] : openArgs(image);
  qemuImg(image.dir, ['snapshot', ...keyArgs(image), '-q', '-a', snapshot, ...tail]);
  return image;
}

/** What our own JSON must say besides what QEMU says, too. */
function checkEnvelope(image: string, qemu: readonly QemuRun[]): void {
  const found = JSON.parse(expectQcow2fs(['map', '--json', image])) as Envelope;
  expect(found.layers.map(({ depth }) => depth)).to.deep.equal(found.layers.map((_, depth) => depth));
  expect(found.layers[0]?.file).to.equal(image);
  let end = 0;
  for (const { start, length } of found.extents) {
    expect(start).to.equal(end);
    end += length;
  }
  expect(end).to.equal(found.size);
  expect(comparableRuns(JSON.stringify(found.extents))).to.deep.equal(
    qemu.filter(({ length }) => length > 0),
  );
  for (const [depth, { depth: told, ...bytes }] of found.totals.entries()) {
    expect(told).to.equal(depth);
    const runs = found.extents.filter((run) => run.depth === depth);
    const sum = (of: readonly QemuRun[]): number => of.reduce((total, { length }) => total + length, 0);
    const absent = runs.filter(({ present }) => !present);
    const zero = runs.filter(({ present, zero }) => present && zero);
    const compressed = runs.filter((run) => run.compressed);
    const shared = runs.filter((run) => run.shared && !run.zero);
    expect(bytes).to.deep.equal({
      data: sum(runs) - sum(absent) - sum(zero) - sum(compressed) - sum(shared),
      shared: sum(shared),
      compressed: sum(compressed),
      zero: sum(zero),
      absent: sum(absent),
      damaged: 0,
    });
  }
}

describe('qcow2fs map and qemu-img map', () => {
  const scratch = useScratch();

  for (const variant of variants) {
    it(`agree on ${variant.name}`, () => {
      const dir = scratch.subdir();
      const image = variant.build(dir);
      const qemu = qemuMap(image.source);
      const ours = expectQcow2fs(['map', '--output=json', image.image]);
      expect(comparableRuns(ours)).to.deep.equal(comparableRuns(qemu));
      if (!ours.includes('"compressed": true')) {
        const withoutKey = (text: string): string => text.replaceAll(', "compressed": false', '');
        expect(withoutKey(ours)).to.equal(withoutKey(qemu));
      }
      checkEnvelope(image.image, comparableRuns(qemu));
      if (image.snapshot !== undefined) {
        const full = fullCopy(image.source, 'full-');
        const shown = expectQcow2fs(['map', '--output=json', '--snapshot', image.snapshot, imagePath(full)]);
        const reverted = revert(fullCopy(full, 'reverted-'), image.snapshot);
        expect(comparableRuns(shown)).to.deep.equal(comparableRuns(qemuMap(reverted)));
      }
      fs.rmSync(dir, { recursive: true });
    });
  }
});
