import { expect } from 'chai';
import { allocateEntryTable, type SharedEntryTable } from '../../../src/qcow2/entry-table.js';
import { parseHeader } from '../../../src/qcow2/format/header.js';
import { geometryOf } from '../../../src/qcow2/geometry.js';
import { allocateImageState, type SharedImageState } from '../../../src/qcow2/image-state.js';
import { Mapping, Run, RunKind } from '../../../src/qcow2/mapping.js';
import { allocateMetadata, MetadataCache } from '../../../src/qcow2/metadata.js';
import { Random } from '../../support/random.js';
import { expectError } from '../support/errors.js';
import { headerBytes } from '../support/headers.js';
import { MemoryStorage } from '../support/memory-storage.js';

interface Shape {
  readonly clusterBits: number;
  readonly version: 2 | 3;
  readonly extended: boolean;
  readonly external: boolean;
  readonly tables: number;
}

interface Answer {
  readonly kind: number;
  readonly host: bigint | undefined;
}

/** Entries have room for offsets that no file reaches. */
const NO_FILE_SO_LONG = 1n << 52n;
const OFFSET = 0x00fffffffffffe00n;
const bit = (word: bigint, index: number | bigint): boolean => ((word >> BigInt(index)) & 1n) === 1n;

/** An image of random tables, and the specification's answer for each guest offset. */
class Model {
  readonly clusterSize: number;
  readonly unit: number;
  readonly coverage: number;
  readonly size: number;
  readonly l1: Buffer;
  readonly file: Buffer;
  readonly shape: Shape;
  readonly header;

  constructor(shape: Shape, random: Random) {
    this.shape = shape;
    this.clusterSize = 2 ** shape.clusterBits;
    this.unit = shape.extended ? this.clusterSize / 32 : this.clusterSize;
    const entryBytes = shape.extended ? 16 : 8;
    this.coverage = (this.clusterSize / entryBytes) * this.clusterSize;
    this.size = shape.tables * this.coverage;
    this.l1 = Buffer.alloc(8 * shape.tables);
    this.file = Buffer.alloc((shape.tables + 1) * this.clusterSize);
    for (let table = 0; table < shape.tables; table++) this.#fillTable(table, entryBytes, random);
    this.header = parseHeader(
      headerBytes({
        version: shape.version,
        clusterBits: shape.clusterBits,
        size: this.size,
        l1Size: shape.tables,
        incompatibleFeatures: (shape.extended ? 16 : 0) | (shape.external ? 4 : 0),
      }),
      'image',
    );
  }

  #fillTable(table: number, entryBytes: number, random: Random): void {
    const offset = (table + 1) * this.clusterSize;
    const choice = random.below(8);
    const l1 =
      choice === 0
        ? 0n
        : choice === 1 && this.clusterSize > 512
          ? BigInt(offset + 512)
          : BigInt(offset) | (1n << 63n);
    this.l1.writeBigUInt64BE(l1, 8 * table);
    let entry = 0n;
    for (let at = 0; at < this.clusterSize; at += entryBytes) {
      const guest = table * this.coverage + (at / entryBytes) * this.clusterSize;
      entry = this.#nextEntry(entry, guest, random);
      this.file.writeBigUInt64BE(entry, offset + at);
      if (entryBytes === 16) this.file.writeBigUInt64BE(this.#bitmap(random), offset + at + 8);
    }
  }

  /** Mostly what continues the run before; sometimes anything. */
  #nextEntry(before: bigint, guest: number, random: Random): bigint {
    const copied = 1n << 63n;
    switch (random.below(16)) {
      case 0:
        return random.u64();
      case 1:
        return 0n;
      case 2:
        return 1n;
      case 3:
        return (1n << 62n) | (random.u64() & ((1n << 50n) - 1n));
      case 4:
        return copied;
      case 5:
        return copied | BigInt(random.below(1000) * this.clusterSize) | BigInt(random.below(2));
      default: {
        if (this.shape.external) return copied | BigInt(guest);
        const host = before & OFFSET;
        return host === 0n || bit(before, 62)
          ? before
          : copied | ((host + BigInt(this.clusterSize)) & OFFSET);
      }
    }
  }

  #bitmap(random: Random): bigint {
    const zeros = BigInt((random.u32() & random.u32()) >>> 0);
    const allocs = BigInt(random.u32());
    const choices = [0n, 0xffff_ffffn, 0xffff_ffffn << 32n, (zeros << 32n) | (allocs & ~zeros), random.u64()];
    return random.pick(choices);
  }

  /** Specification: "Cluster mapping", "Extended L2 Entries". */
  answer(guest: number): Answer {
    const { extended, external, version } = this.shape;
    const corrupt = { kind: RunKind.corrupt, host: undefined };
    const table = this.l1.readBigUInt64BE(8 * Math.floor(guest / this.coverage)) & OFFSET;
    if (table === 0n) return { kind: RunKind.unallocated, host: undefined };
    if (table % BigInt(this.clusterSize) !== 0n) return corrupt;
    const index = Math.floor((guest % this.coverage) / this.clusterSize);
    const at = Number(table) + index * (extended ? 16 : 8);
    const entry = this.file.readBigUInt64BE(at);
    if (bit(entry, 62)) {
      const start = entry & ((1n << (62n - (BigInt(Math.log2(this.clusterSize)) - 8n))) - 1n);
      return external || start > NO_FILE_SO_LONG ? corrupt : { kind: RunKind.compressed, host: undefined };
    }
    const offset = entry & OFFSET;
    const hasCluster = offset !== 0n || (external && bit(entry, 63));
    const within = BigInt(guest % this.clusterSize);
    if (hasCluster && (offset % BigInt(this.clusterSize) !== 0n || offset > NO_FILE_SO_LONG)) return corrupt;
    if (hasCluster && external && offset !== BigInt(guest) - within) return corrupt;
    if (!extended) {
      if (bit(entry, 0)) return version === 2 ? corrupt : { kind: RunKind.zero, host: undefined };
      if (!hasCluster) return { kind: RunKind.unallocated, host: undefined };
      return { kind: RunKind.data, host: offset + within };
    }
    const bitmap = this.file.readBigUInt64BE(at + 8);
    const allocs = bitmap & 0xffff_ffffn;
    const zeros = bitmap >> 32n;
    if ((allocs & zeros) !== 0n || (!hasCluster && allocs !== 0n)) return corrupt;
    const subcluster = Number(within) / this.unit;
    if (bit(zeros, Math.floor(subcluster))) return { kind: RunKind.zero, host: undefined };
    if (!bit(allocs, Math.floor(subcluster))) return { kind: RunKind.unallocated, host: undefined };
    return { kind: RunKind.data, host: offset + within };
  }
}

/** The table as threads share it. */
function sharedL1(bytes: Buffer): SharedEntryTable {
  const l1 = allocateEntryTable(bytes.length / 8);
  Buffer.from(l1.entries).set(bytes);
  Buffer.from(l1.entries).swap32();
  return l1;
}

function stateOf(model: Model): SharedImageState {
  const l1Size = model.l1.length / 8;
  return allocateImageState({
    diskSize: model.size,
    l1Size,
    l1FileSize: l1Size,
    l1Offset: 0,
    tableOffset: 0,
    tableSize: 0,
    firstFree: 0,
    fileEnd: 0,
    tableChanges: 0,
    headerSize: model.size,
    toldSize: model.size,
    clearedTo: model.size,
  });
}

class Walker {
  readonly storage: MemoryStorage;
  readonly slots: number;
  readonly #mapping: Mapping;
  readonly #cache: MetadataCache;

  constructor(model: Model, cacheBytes: number) {
    const geometry = geometryOf(model.header);
    const shared = allocateMetadata(geometry, stateOf(model), sharedL1(model.l1), cacheBytes);
    this.slots = shared.slices.slots.byteLength / geometry.sliceBytes;
    this.storage = new MemoryStorage(model.file);
    this.#mapping = new Mapping(geometry);
    this.#cache = new MetadataCache(shared, geometry, this.storage, true);
  }

  find(offset: number, maxLength: number): Run {
    const run = new Run();
    while (!this.#mapping.find(this.#cache, offset, maxLength, run))
      this.#cache.fill(this.#mapping.sliceKey(offset));
    return run;
  }
}

/** Compares a run with the model, unit by unit. */
function compare(model: Model, run: Run, offset: number, maxLength: number): void {
  expect(run.length).to.be.within(1, maxLength);
  for (let at = offset; at < offset + run.length; at += model.unit - (at % model.unit)) {
    const expected = model.answer(at);
    if (run.kind !== expected.kind) expect.fail(`guest ${at}: kind ${run.kind}, not ${expected.kind}`);
    if (expected.host !== undefined && BigInt(run.hostOffset) + BigInt(at - offset) !== expected.host) {
      expect.fail(`guest ${at}: host ${run.hostOffset} + ${at - offset}, not ${expected.host}`);
    }
  }
  if (run.kind === RunKind.corrupt) expect(run.problem).to.match(/^L[12] entry \d+/);
}

const SHAPES: Record<string, Shape> = {
  'standard entries, 512-byte clusters': {
    clusterBits: 9,
    version: 3,
    extended: false,
    external: false,
    tables: 60,
  },
  'standard entries, 16 KiB clusters': {
    clusterBits: 14,
    version: 3,
    extended: false,
    external: false,
    tables: 8,
  },
  'version 2': { clusterBits: 10, version: 2, extended: false, external: false, tables: 30 },
  'an external data file': { clusterBits: 10, version: 3, extended: false, external: true, tables: 30 },
  'extended entries': { clusterBits: 14, version: 3, extended: true, external: false, tables: 4 },
  'extended entries and an external data file': {
    clusterBits: 14,
    version: 3,
    extended: true,
    external: true,
    tables: 3,
  },
};

describe('the mapping', () => {
  let seed = 1;
  for (const [name, shape] of Object.entries(SHAPES)) {
    const model = new Model(shape, new Random(seed++));

    it(`answers as the specification does, in merged runs: ${name}`, () => {
      const walker = new Walker(model, 2 ** 20);
      let runs = 0;
      for (let at = 0; at < model.size; runs++) {
        const run = walker.find(at, model.size - at);
        compare(model, run, at, model.size - at);
        at += run.length;
      }
      expect(runs).to.be.below(model.size / model.unit);
    });

    it(`answers from any offset, for any length: ${name}`, () => {
      const random = new Random(77);
      const walker = new Walker(model, 2 ** 20);
      for (let round = 0; round < 1000; round++) {
        const offset = random.below(model.size);
        const maxLength = 1 + random.below(Math.min(model.size - offset, 40 * model.unit));
        compare(model, walker.find(offset, maxLength), offset, maxLength);
      }
    });

    it(`answers the same with a cache that holds almost nothing: ${name}`, () => {
      const random = new Random(78);
      const walker = new Walker(model, 1);
      expect(walker.slots).to.equal(4);
      for (let round = 0; round < 1000; round++) {
        const offset = random.below(model.size);
        compare(model, walker.find(offset, model.unit), offset, model.unit);
      }
      expect(walker.storage.reads).to.be.above(4);
    });
  }
});

describe('the metadata cache', () => {
  const shape: Shape = { clusterBits: 9, version: 3, extended: false, external: false, tables: 8 };
  const sound = new Model(shape, new Random(1));
  for (let table = 0; table < 8; table++) sound.l1.writeBigUInt64BE(BigInt(512 * (table + 1)), 8 * table);

  it('reads a slice once while it has room', () => {
    const walker = new Walker(sound, 2 ** 20);
    for (let round = 0; round < 3; round++) {
      for (let table = 0; table < 8; table++) walker.find(table * sound.coverage, 512);
    }
    expect(walker.storage.reads).to.equal(8);
  });

  it('keeps what is used when it must make room', () => {
    const walker = new Walker(sound, 1);
    for (let table = 0; table < 5; table++) walker.find(table * sound.coverage, 512);
    expect(walker.storage.reads).to.equal(5);
    walker.find(4 * sound.coverage, 512);
    expect(walker.storage.reads).to.equal(5);
  });

  it('has entries for the disk and no more', () => {
    expect(new Walker(sound, 2 ** 30).slots).to.equal(16);
  });

  it('reports an L2 table outside the file as damage, and stays usable', () => {
    const model = new Model(shape, new Random(2));
    model.l1.writeBigUInt64BE(512n, 0);
    model.l1.writeBigUInt64BE(BigInt(model.file.length), 8);
    const walker = new Walker(model, 1);
    const outside = () => walker.find(model.coverage, 512);
    expectError('corrupt', ['image.qcow2', 'L1 entry 1', `0x${model.file.length.toString(16)}`], outside);
    expectError('corrupt', ['outside the file'], outside);
    compare(model, walker.find(0, 512), 0, 512);
  });
});
