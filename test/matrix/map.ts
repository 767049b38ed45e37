/** What `qcow2fs map` says of an image of the matrix, beside what `qemu-img map` says. */
import path from 'node:path';
import { expect } from 'chai';
import { type Image, imagePath, keyArgs, openArgs, qemuImg } from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { comparableRuns, type QemuRun, qemuMap } from '../support/qemu-map.js';
import { run } from '../support/run.js';
import type { BuiltImage } from '../support/variant.js';

interface Envelope {
  readonly size: number;
  readonly layers: readonly { readonly file: string; readonly depth: number }[];
  readonly extents: readonly (QemuRun & { readonly shared: boolean })[];
  readonly totals: readonly Record<string, number>[];
}

export async function expectMapped(image: BuiltImage): Promise<void> {
  const qemu = qemuMap(image.source);
  const ours = await expectInProcess(['map', '--output=json', image.image]);
  expect(comparableRuns(ours)).to.deep.equal(comparableRuns(qemu));
  if (!ours.includes('"compressed": true')) {
    const withoutKey = (text: string): string => text.replaceAll(', "compressed": false', '');
    expect(withoutKey(ours)).to.equal(withoutKey(qemu));
  }
  await expectEnvelope(image.image, comparableRuns(qemu));
}

/** QEMU maps no snapshots: the reference is a copy in which the snapshot has become the disk. */
export async function expectSnapshotMapped(image: BuiltImage, snapshot: string): Promise<void> {
  const full = fullCopy(image.source, 'full-');
  const shown = await expectInProcess(['map', '--output=json', '--snapshot', snapshot, imagePath(full)]);
  const reverted = revert(fullCopy(full, 'reverted-'), snapshot);
  expect(comparableRuns(shown)).to.deep.equal(comparableRuns(qemuMap(reverted)));
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
async function expectEnvelope(image: string, qemu: readonly QemuRun[]): Promise<void> {
  const found = JSON.parse(await expectInProcess(['map', '--json', image])) as Envelope;
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
