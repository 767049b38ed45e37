/** Reading around damage: everything that can be read is, exactly what cannot is told, and it ends soon. */

import { expect } from 'chai';
import { DamagedRanges } from '../../src/damaged-ranges.js';
import type { Extent, ExtentVisitor, ScanBudget } from '../../src/disk.js';
import { Qcow2fsError } from '../../src/errors.js';
import { ReadOnlyDisk } from '../../src/read-only-disk.js';
import { salvage } from '../../src/salvage.js';

const MiB = 1024 * 1024;
const SECTOR = 512;

type Range = readonly [start: number, end: number];

/** Every byte is 7; reads that touch a bad range fail. */
class FailingDisk extends ReadOnlyDisk {
  readonly size = MiB;
  readonly #bad: readonly Range[];
  readonly #extents: readonly Partial<Extent>[];
  reads = 0;
  kind: 'host-io' | 'corrupt' | 'internal' = 'host-io';

  constructor(bad: readonly Range[], extents: readonly Partial<Extent>[] = [{ offset: 0, length: MiB }]) {
    super();
    this.#bad = bad;
    this.#extents = extents;
  }

  read(target: Buffer, targetOffset: number, length: number, offset: number): void {
    this.reads++;
    target.fill(9, targetOffset, targetOffset + length);
    const hit = this.#bad.find(([start, end]) => start < offset + length && end > offset);
    if (hit) throw new Qcow2fsError(this.kind, `bad from ${hit[0]}`);
    target.fill(7, targetOffset, targetOffset + length);
  }

  scan(_offset: number, _length: number, visit: ExtentVisitor, _budget: ScanBudget): boolean {
    const plain = { data: true, depth: 0, present: true, compressed: false, shared: false };
    for (const extent of this.#extents) {
      visit({ ...plain, problem: undefined, hostOffset: undefined, ...extent } as Extent);
    }
    return true;
  }

  storedBytes(): number {
    return MiB;
  }
  close(): void {}
}

/** Salvages all of it; checks that what is not lost is there, and that what is lost is zeros. */
function salvaged(disk: FailingDisk): (readonly [start: number, end: number, coarse: boolean])[] {
  const target = Buffer.alloc(MiB + 2, 5);
  const ranges = new DamagedRanges();
  salvage(disk, target, 1, MiB, 0, ({ offset, length, coarse }) => ranges.add(offset, length, coarse));
  const expected = Buffer.alloc(MiB, 7);
  for (const { offset, length } of ranges) expected.fill(0, offset, offset + length);
  expect(target.subarray(1, -1).equals(expected)).to.equal(true);
  expect([target[0], target.at(-1)]).to.deep.equal([5, 5]);
  return [...ranges].map(({ offset, length, coarse }) => [offset, offset + length, coarse]);
}

describe('salvage', () => {
  it('is one read where nothing is damaged', () => {
    const disk = new FailingDisk([]);
    expect(salvaged(disk)).to.deep.equal([]);
    expect(disk.reads).to.equal(1);
  });

  for (const bad of [
    [[0, SECTOR]],
    [[MiB - SECTOR, MiB]],
    [
      [3 * SECTOR, 4 * SECTOR],
      [100 * SECTOR, 103 * SECTOR],
    ],
    [[77 * SECTOR, 1900 * SECTOR]],
    [[0, 2047 * SECTOR]],
  ] as const) {
    it(`finds the sectors that fail to the last byte: ${JSON.stringify(bad)}`, () => {
      expect(salvaged(new FailingDisk(bad)).map(([start, end]) => [start, end])).to.deep.equal(bad);
    });
  }

  it('is soon done with a disk that fails from end to end, and says that not every sector was tried', () => {
    const disk = new FailingDisk([[0, MiB]]);
    expect(salvaged(disk)).to.deep.equal([[0, MiB, true]]);
    expect(disk.reads).to.be.below(200);
  });

  it('does not try what the metadata call damaged, nor read what they call zeros', () => {
    const disk = new FailingDisk(
      [[0, 3 * SECTOR]],
      [
        { offset: 0, length: 2 * SECTOR, problem: 'no sense' },
        { offset: 2 * SECTOR, length: SECTOR, problem: 'none either' },
        { offset: 3 * SECTOR, length: MiB - 3 * SECTOR },
      ],
    );
    expect(salvaged(disk)).to.deep.equal([[0, 3 * SECTOR, false]]);
    expect(disk.reads).to.equal(2);
  });

  it('loses a compressed cluster as a whole, after one attempt', () => {
    const disk = new FailingDisk(
      [[SECTOR, 2 * SECTOR]],
      [
        { offset: 0, length: 128 * SECTOR, compressed: true },
        { offset: 128 * SECTOR, length: MiB - 128 * SECTOR },
      ],
    );
    disk.kind = 'corrupt';
    expect(salvaged(disk)).to.deep.equal([[0, 128 * SECTOR, false]]);
    expect(disk.reads).to.equal(3);
  });

  it('reads all it can where not even the extents are told', () => {
    expect(salvaged(new FailingDisk([[SECTOR, 2 * SECTOR]], []))).to.deep.equal([
      [SECTOR, 2 * SECTOR, false],
    ]);
  });

  it('takes a bug for no damage', () => {
    const disk = new FailingDisk([[0, SECTOR]]);
    disk.kind = 'internal';
    expect(() => salvaged(disk)).to.throw('bad from 0');
  });
});
