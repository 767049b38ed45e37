/** `qcow2fs map` against `qemu-img map` where a guest did anything anywhere. */

import { expect } from 'chai';
import {
  createImage,
  createRaw,
  type Image,
  type ImageSpec,
  imagePath,
  KiB,
  MiB,
  type Step,
  writeSteps,
} from '../support/images.js';
import { expectInProcess } from '../support/in-process.js';
import { comparableRuns, type QemuRun, qemuMap } from '../support/qemu-map.js';
import { Random } from '../support/random.js';
import { run } from '../support/run.js';
import { useScratch } from '../support/scratch.js';

const SECTOR = 512;
const STEPS = 300;
const MAX_SECTORS = 200;

/** Compressed writes go where no cluster was touched before: QEMU refuses to put them over others. */
function randomSteps(random: Random, size: number, clusterSize: number, most: number): Step[] {
  const touched = new Set<number>();
  const steps: Step[] = [];
  for (let count = 0; count < most; count++) {
    const kind = random.pick(['data', 'data', 'zero', 'zero-unmap', 'discard', 'compressed'] as const);
    if (kind === 'compressed') {
      const cluster = random.below(Math.floor(size / clusterSize));
      if (touched.has(cluster)) continue;
      touched.add(cluster);
      steps.push({ do: kind, offset: cluster * clusterSize, length: clusterSize });
      continue;
    }
    const sector = random.below(size / SECTOR);
    const sectors = Math.min(1 + random.below(MAX_SECTORS), size / SECTOR - sector);
    const offset = sector * SECTOR;
    const length = sectors * SECTOR;
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) touched.add(cluster);
    steps.push({ do: kind, offset, length });
  }
  // Each kind of write after another one opens the image anew; the order between clusters does not matter.
  return [
    ...steps.filter((step) => step.do === 'compressed'),
    ...steps.filter((step) => step.do !== 'compressed'),
  ];
}

const IMAGES: readonly (readonly [name: string, spec: ImageSpec])[] = [
  ['64 KiB clusters', { clusterSize: 64 * KiB }],
  ['512 B clusters', { clusterSize: 512 }],
  ['4 KiB clusters, version 2', { clusterSize: 4 * KiB, version: 2 }],
  ['extended L2', { clusterSize: 64 * KiB, options: ['extended_l2=on'] }],
  ['extended L2, metadata preallocated', { options: ['extended_l2=on', 'preallocation=metadata'] }],
  ['metadata preallocated', { clusterSize: 16 * KiB, options: ['preallocation=metadata'] }],
  ['an external data file', { clusterSize: 16 * KiB, options: ['data_file=data.raw'] }],
];

describe('qcow2fs map and qemu-img map on a disk that was written at random', () => {
  const scratch = useScratch();

  function make(dir: string, spec: ImageSpec, seed: number, most = STEPS): Image {
    const size = spec.size ?? 8 * MiB;
    const image = createImage(dir, { ...spec, size });
    const steps = randomSteps(new Random(seed), size, spec.clusterSize ?? 64 * KiB, most);
    // Data files take nothing compressed; preallocated clusters are others, which QEMU refuses to compress over.
    const plain = spec.options?.some((option) => /^(data_file|preallocation)/.test(option)) ?? false;
    writeSteps(image, seed, plain ? steps.filter((step) => step.do !== 'compressed') : steps);
    return image;
  }

  async function expectAgreement(image: Image): Promise<QemuRun[]> {
    const ours = comparableRuns(await expectInProcess(['map', '--output=json', imagePath(image)]));
    expect(ours).to.deep.equal(comparableRuns(qemuMap(image)));
    return ours;
  }

  for (const [index, [name, spec]] of IMAGES.entries()) {
    it(`agree: ${name}`, async () => {
      const runs = await expectAgreement(make(scratch.subdir(), spec, index + 1));
      expect(runs.length).to.be.above(50);
    });
  }

  it('agree: three layers of different clusters over a raw file with holes', async () => {
    const dir = scratch.subdir();
    const raw = createRaw(dir, 'base.raw', 5 * MiB + 300, 1);
    for (const offset of [0, 64 * KiB, MiB]) {
      run('fallocate', ['--punch-hole', '--offset', String(offset), '--length', '48KiB', raw]);
    }
    make(dir, { name: 'low.qcow2', size: 6 * MiB, backing: { file: 'base.raw', format: 'raw' } }, 11, 30);
    const extended = { clusterSize: 32 * KiB, options: ['extended_l2=on'] };
    make(dir, { name: 'mid.qcow2', ...extended, backing: { file: 'low.qcow2', format: 'qcow2' } }, 12, 40);
    const top = { clusterSize: 4 * KiB, size: 9 * MiB };
    const runs = await expectAgreement(
      make(dir, { ...top, backing: { file: 'mid.qcow2', format: 'qcow2' } }, 13, 60),
    );
    expect(new Set(runs.map(({ depth }) => depth))).to.deep.equal(new Set([0, 1, 2, 3]));
  });
});
