import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { Findings } from '../../../../src/qcow2/check/finding.js';
import { ReferenceCounts } from '../../../../src/qcow2/check/reference-counts.js';
import { countReferences } from '../../../../src/qcow2/check/references.js';
import { readImage } from '../../../../src/qcow2/image.js';
import { repairDirtyImage } from '../../../../src/qcow2/repair/repair.js';
import { Crash, CrashStorage } from '../../../support/crash/storage.js';
import {
  fileLength,
  l2EntryOffset,
  patchBytes,
  patchField,
  patchL2,
  patchNumber,
  readField,
  readL2,
  setFeatureBit,
} from '../../../support/damage.js';
import {
  compressed,
  type DirtyImage,
  dirtyImages,
  externalData,
  flipCopied,
  moveFirstCluster,
  refcountBlocks,
  small,
  tiny,
  withBitmaps,
  withLuks,
  withSnapshots,
} from '../../../support/dirty-images.js';
import { checkImage, convertToRaw, type Image, imagePath, KiB, MiB } from '../../../support/images.js';
import { Random } from '../../../support/random.js';
import { useScratch } from '../../../support/scratch.js';
import { expectError } from '../../support/errors.js';
import { headerBytes } from '../../support/headers.js';
import { STRUCTURAL_DAMAGE } from './structural-damage.js';

const COPIED = 1n << 63n;
const ADVICE = 'see what is wrong: qcow2fs check, or mount it read-only: -r';

/** An image on disk, with what it held before anything was repaired. */
class Subject {
  readonly image: Image;
  readonly path: string;
  readonly expected: Buffer;

  constructor(image: Image, expected: Buffer) {
    this.image = image;
    this.path = imagePath(image);
    this.expected = expected;
  }

  get isDirty(): boolean {
    return (readField(this.path, 'incompatibleFeatures') & 1n) !== 0n;
  }

  repair(): CrashStorage {
    const storage = new CrashStorage(this.path);
    repairDirtyImage(readImage(storage));
    expect(storage.afterCrash(() => false).equals(storage.content), 'all is synced').to.equal(true);
    writeFileSync(this.path, storage.content);
    return storage;
  }

  expectSound(): void {
    expect(this.isDirty, 'dirty bit').to.equal(false);
    checkImage(this.image);
    expect(readFileSync(convertToRaw(this.image)).equals(this.expected), 'content').to.equal(true);
  }
}

function dropTable(path: string): void {
  for (const { entry } of refcountBlocks(path)) patchNumber(path, entry, 8, 0);
}

/** What lazy refcounts may leave, and worse; the repair trusts none of it. */
const DAMAGES: Readonly<Record<string, (path: string) => void>> = {
  'refcounts of zero': (path) => {
    const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
    for (const { offset } of refcountBlocks(path)) patchBytes(path, offset, Buffer.alloc(clusterSize));
  },
  'refcounts too high': (path) => {
    const clusterSize = 2 ** Number(readField(path, 'clusterBits'));
    for (const { offset } of refcountBlocks(path)) patchBytes(path, offset, Buffer.alloc(clusterSize, 0xff));
  },
  'one entry of the refcount table lost': (path) => {
    patchNumber(path, refcountBlocks(path).at(-1)!.entry, 8, 0);
  },
  'the refcount table lost': dropTable,
  'wrong COPIED flags': flipCopied,
};

const CRASH_SCENES: Readonly<Record<string, (path: string) => void>> = {
  'flags and counts are wrong': flipCopied,
  'blocks are missing': dropTable,
  'blocks are missing, and flags are wrong': (path) => {
    dropTable(path);
    flipCopied(path);
  },
  'the table must grow': (path) => moveFirstCluster(path, 2.5 * MiB),
  'snapshots share clusters': (path) => {
    patchNumber(path, refcountBlocks(path)[0]!.entry, 8, 0);
    flipCopied(path);
  },
};

describe('the repair of a dirty image', () => {
  const scratch = useScratch();
  const built = new Map<DirtyImage, Subject>();

  /** A copy of the image, which is built once. */
  function fresh(kind: DirtyImage): Subject {
    let template = built.get(kind);
    if (template === undefined) {
      const image = kind.build(scratch.subdir());
      template = new Subject(image, readFileSync(convertToRaw(image)));
      built.set(kind, template);
    }
    const dir = scratch.subdir();
    cpSync(template.image.dir, dir, { recursive: true });
    return new Subject({ ...template.image, dir }, template.expected);
  }

  describe('makes sound what a crash left', () => {
    for (const kind of dirtyImages) {
      it(kind.name, () => {
        const subject = fresh(kind);
        expect(subject.isDirty).to.equal(true);
        if (kind.unharmed !== true) expect(() => checkImage(subject.image), 'before').to.throw();
        subject.repair();
        subject.expectSound();
      });
    }
  });

  describe('mends by hand-made damage', () => {
    for (const kind of [small, withSnapshots, withLuks, compressed, externalData, withBitmaps]) {
      for (const [name, damage] of Object.entries(DAMAGES)) {
        it(`${name}: ${kind.name}`, () => {
          const subject = fresh(kind);
          damage(subject.path);
          subject.repair();
          subject.expectSound();
        });
      }
    }

    it('a refcount table that is too small', () => {
      const subject = fresh(tiny);
      const table = readField(subject.path, 'refcountTableOffset');
      expect(readField(subject.path, 'refcountTableClusters')).to.equal(1n);
      // The new table lies across the borders of what one block counts.
      moveFirstCluster(subject.path, 20 * MiB + 50 * 512);
      subject.repair();
      expect(Number(readField(subject.path, 'refcountTableClusters'))).to.be.above(9);
      expect(readField(subject.path, 'refcountTableOffset')).not.to.equal(table);
      subject.expectSound();
    });

    it('COPIED flags of compressed clusters and of entries without a cluster', () => {
      const subject = fresh(compressed);
      const guest = 3 * 4 * KiB;
      expect(readL2(subject.path, guest) >> 62n).to.equal(1n);
      patchL2(subject.path, guest, readL2(subject.path, guest) | COPIED);
      const hole = 22 * 64 * KiB;
      expect(readL2(subject.path, hole)).to.equal(0n);
      patchL2(subject.path, hole, COPIED);
      subject.repair();
      expect(readL2(subject.path, guest) >> 62n).to.equal(1n);
      expect(readL2(subject.path, hole)).to.equal(0n);
      subject.expectSound();
    });

    it('a flag at offset 0 of external data, where it tells that there is data', () => {
      const subject = fresh(externalData);
      expect(readL2(subject.path, 0)).to.equal(COPIED);
      subject.repair();
      expect(readL2(subject.path, 0)).to.equal(COPIED);
    });
  });

  it('gives up the clusters of bitmaps that a writer left behind', () => {
    const subject = fresh(withBitmaps);
    patchField(subject.path, 'autoclearFeatures', 0);
    subject.repair();
    subject.expectSound();
  });

  it('writes only what is wrong', () => {
    const subject = fresh(small);
    subject.repair();
    setFeatureBit(subject.path, 'incompatibleFeatures', 0);
    const marked = subject.repair();
    expect(marked.writes).to.equal(1);
    expect(marked.bytesWritten).to.equal(8);

    setFeatureBit(subject.path, 'incompatibleFeatures', 0);
    patchL2(subject.path, 0, readL2(subject.path, 0) ^ COPIED);
    const flag = subject.repair();
    expect(flag.writes).to.equal(2);
    expect(flag.bytesWritten).to.equal(512 + 8);
    subject.expectSound();
  });

  it('writes new refcount blocks to their end', () => {
    const subject = fresh(withBitmaps);
    dropTable(subject.path);
    subject.repair();
    const { offset } = refcountBlocks(subject.path)[0]!;
    expect(fileLength(subject.path)).to.equal(offset + 64 * KiB);
  });

  it('leaves a clean image alone', () => {
    const subject = fresh(small);
    subject.repair();
    patchBytes(subject.path, refcountBlocks(subject.path)[0]!.offset, Buffer.alloc(512));
    expect(subject.repair().calls).to.equal(0);
  });

  it('keeps the other incompatible features', () => {
    const subject = fresh(externalData);
    expect(readField(subject.path, 'incompatibleFeatures')).to.equal(5n);
    subject.repair();
    expect(readField(subject.path, 'incompatibleFeatures')).to.equal(4n);
  });

  it('takes new blocks from behind the last cluster in use, not from behind the end of a device', () => {
    const subject = fresh(small);
    dropTable(subject.path);
    const end = fileLength(subject.path);
    writeFileSync(subject.path, Buffer.alloc(MiB), { flag: 'a' });
    subject.repair();
    expect(fileLength(subject.path)).to.equal(end + MiB);
    subject.expectSound();
  });

  describe('that is cut off at any write leaves an image that the next one mends', () => {
    const random = new Random(7);
    const outcomes: Record<string, Parameters<CrashStorage['afterCrash']>[0]> = {
      'all that was written is kept': () => true,
      'nothing unsynced is kept': () => false,
      'only the last sector is kept': (index, count) => index === count - 1,
      'some sectors are kept': () => random.below(2) === 0,
    };
    for (const [name, damage] of Object.entries(CRASH_SCENES)) {
      for (const [outcome, keeps] of Object.entries(outcomes)) {
        it(`${name}; ${outcome}`, () => {
          const subject = fresh(name.startsWith('snapshots') ? withSnapshots : tiny);
          damage(subject.path);
          const before = readFileSync(subject.path);
          let crashes = 0;
          for (; ; crashes++) {
            const storage = new CrashStorage(subject.path, before);
            storage.crashAt = crashes + 1;
            try {
              repairDirtyImage(readImage(storage));
              break;
            } catch (error) {
              if (!(error instanceof Crash)) throw error;
            }
            writeFileSync(subject.path, storage.afterCrash(keeps));
            if (subject.isDirty) subject.repair();
            subject.expectSound();
          }
          expect(crashes).to.be.above(4);
        });
      }
    }
  });

  describe('refuses', () => {
    for (const [name, { kind, damage, where, what }] of Object.entries(STRUCTURAL_DAMAGE)) {
      it(name, () => {
        const subject = fresh(kind);
        damage(subject.path);
        const storage = new CrashStorage(subject.path);
        const image = readImage(storage);
        expectError('corrupt', [subject.path, `: ${where}`, what, ADVICE], () => repairDirtyImage(image));
        expect(storage.calls).to.equal(0);
      });
    }

    it('more references than a refcount can hold', () => {
      const subject = fresh(dirtyImages.find(({ name }) => name === 'refcounts of 1 bits')!);
      patchL2(subject.path, 22 * 64 * KiB, readL2(subject.path, 0));
      const storage = new CrashStorage(subject.path);
      const image = readImage(storage);
      const words = ['a cluster has 2 references', 'refcounts of 1 bits', 'qemu-img convert'];
      expectError('unsupported', words, () => repairDirtyImage(image));
      expect(storage.calls).to.equal(0);
    });

    it('tables without end', () => {
      const cluster = 2 * MiB;
      const content = Buffer.alloc(2 * cluster);
      // 1100 refcount blocks of 2^18 words each.
      for (let index = 0; index < 1100; index++) {
        content.writeBigUInt64BE(BigInt((index + 3) * cluster), cluster + 8 * index);
      }
      headerBytes({
        ...{ clusterBits: 21, refcountTableOffset: cluster, incompatibleFeatures: 1 },
        ...{ l1TableOffset: 2 * cluster },
      }).copy(content);
      const storage = new CrashStorage('/image', content);
      storage.holeEnd = 2000 * cluster;
      expectError('unsupported', ['/image', 'too many to count', 'qcow2fs check'], () =>
        repairDirtyImage(readImage(storage)),
      );
    });
  });

  it('reads an L2 table once, however many L1 entries name it', () => {
    const cluster = 2 * MiB;
    const entries = MiB;
    const content = Buffer.alloc(10 * cluster);
    headerBytes({
      ...{ clusterBits: 21, refcountTableOffset: cluster, incompatibleFeatures: 1 },
      ...{ l1TableOffset: 2 * cluster, l1Size: entries, refcountOrder: 6 },
    }).copy(content);
    for (let index = 0; index < entries; index++) {
      content.writeBigUInt64BE(BigInt(8 * cluster), 2 * cluster + 8 * index);
    }
    for (let at = 0; at < cluster; at += 8) content.writeBigUInt64BE(BigInt(9 * cluster), 8 * cluster + at);
    const findings = new Findings();
    const image = readImage(new CrashStorage('/image', content));
    const { counts } = countReferences(image, findings.reportFor('/image'));
    expect(findings.kept).to.deep.equal([]);
    expect(counts.count(8)).to.equal(entries);
    expect(counts.count(9)).to.be.above(ReferenceCounts.maxCount);
  });

  it('learns of all problems of an image, not only the first', () => {
    const subject = fresh(small);
    patchL2(subject.path, 0, COPIED | 0x7f00_0000_0000n);
    patchL2(subject.path, 512, COPIED | 0x7f00_0000_0000n);
    const findings = new Findings();
    countReferences(readImage(new CrashStorage(subject.path)), findings.reportFor(subject.path));
    expect(findings.totals).to.deep.equal({ corruption: 2, missing: 0, leak: 0, warning: 0 });
    const l2 = l2EntryOffset(subject.path, 0);
    const expected = { kind: 'outside-file', structure: 'L2 table', offset: l2 };
    expect(findings.kept.map(({ kind, structure, offset }) => ({ kind, structure, offset }))).to.deep.equal([
      expected,
      expected,
    ]);
    expect(findings.kept.map(({ entry, guestOffset }) => [entry, guestOffset])).to.deep.equal([
      [0, 0],
      [1, 512],
    ]);
  });
});
