/**
 * Where the structures of an image lie, as far as they can be found: the fields that are worth damaging, and the
 * offsets that are worth pointing to. It believes everything that it reads, and stops where that leads outside the
 * file. Deliberately independent of src/, which judges the same bytes.
 */
import { EXTENSION, HEADER_FIELDS } from '../support/damage.js';
import { LUKS_FIELDS, SLOT_FIELDS, SLOT_SIZE, SLOTS_OFFSET } from '../support/damage-luks.js';

export interface Field {
  readonly at: number;
  /** Bytes. */
  readonly width: number;
}

export const AREAS = [
  'header',
  'extensions',
  'names',
  'L1',
  'L2',
  'refcounts',
  'snapshots',
  'bitmaps',
  'LUKS',
  'compressed data',
] as const;
export type Area = (typeof AREAS)[number];

export interface Layout {
  readonly clusterSize: number;
  readonly fields: Readonly<Record<Area, readonly Field[]>>;
  /** Of structures and data, and of the end of the file. */
  readonly offsets: readonly number[];
}

/** Of one table; the rest is alike. */
const MAX_ENTRIES = 48;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const EXTENDED_L2 = 1n << 4n;

export function findLayout(bytes: Buffer): Layout {
  return new LayoutFinder(bytes).find();
}

class LayoutFinder {
  readonly #bytes: Buffer;
  readonly #fields: Record<Area, Field[]>;
  readonly #offsets = new Set<number>([0]);
  #clusterSize = 65536;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#fields = Object.fromEntries(AREAS.map((area) => [area, []])) as unknown as Record<Area, Field[]>;
  }

  find(): Layout {
    const clusterBits = this.#try(() => this.#header('clusterBits')) ?? 16;
    this.#clusterSize = 2 ** Math.min(Math.max(clusterBits, 9), 21);
    for (const [at, width] of Object.values(HEADER_FIELDS)) this.#add('header', at, width);
    this.#try(() => this.#findExtensions());
    this.#try(() => {
      const [name, length] = [this.#header('backingFileOffset'), this.#header('backingFileSize')];
      if (name > 0) this.#addBytes('names', name, Math.min(length, 1024));
    });
    this.#try(() => this.#findL1(this.#header('l1TableOffset'), this.#header('l1Size')));
    this.#try(() => this.#findRefcounts());
    this.#try(() => this.#findSnapshots());
    const end = this.#bytes.length;
    const size = this.#clusterSize;
    for (const offset of [end, Math.ceil(end / size) * size, Math.max(0, end - size), 512, size]) {
      this.#offsets.add(offset);
    }
    return { clusterSize: size, fields: this.#fields, offsets: [...this.#offsets] };
  }

  /** What lies outside the file is undefined, and ends the search there. */
  #try<T>(action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  #number(at: number, width: number): number {
    return Number(this.#word(at, width));
  }

  #word(at: number, width: number): bigint {
    return width === 8 ? this.#bytes.readBigUInt64BE(at) : BigInt(this.#bytes.readUIntBE(at, width));
  }

  #header(field: keyof typeof HEADER_FIELDS): number {
    const [at, width] = HEADER_FIELDS[field];
    return this.#number(at, width);
  }

  #add(area: Area, at: number, width: number): void {
    if (at + width <= this.#bytes.length) this.#fields[area].push({ at, width });
  }

  #addBytes(area: Area, at: number, length: number): void {
    for (let index = 0; index < length; index++) this.#add(area, at + index, 1);
  }

  #findExtensions(): void {
    let at = this.#header('version') === 2 ? 72 : this.#header('headerLength');
    for (let count = 0; count < MAX_ENTRIES; count++) {
      const type = this.#number(at, 4);
      const length = this.#number(at + 4, 4);
      this.#add('extensions', at, 4);
      this.#add('extensions', at + 4, 4);
      if (type === EXTENSION.end) return;
      const data = at + 8;
      for (let word = 0; word + 8 <= Math.min(length, 64); word += 8) {
        this.#add('extensions', data + word, 8);
        this.#add('extensions', data + word, 4);
      }
      if (type === EXTENSION.dataFile || type === EXTENSION.backingFormat)
        this.#addBytes('names', data, Math.min(length, 256));
      if (type === EXTENSION.bitmaps) this.#try(() => this.#findBitmaps(data));
      if (type === EXTENSION.encryption) this.#try(() => this.#findLuks(this.#number(data, 8)));
      at = data + Math.ceil(length / 8) * 8;
    }
  }

  #findBitmaps(extension: number): void {
    const count = this.#number(extension, 4);
    let at = this.#number(extension + 16, 8);
    this.#offsets.add(at);
    for (let index = 0; index < Math.min(count, MAX_ENTRIES); index++) {
      const entry = [8, 4, 4, 1, 1, 2, 4];
      let field = at;
      for (const width of entry) {
        this.#add('bitmaps', field, width);
        field += width;
      }
      const [table, size] = [this.#number(at, 8), this.#number(at + 8, 4)];
      this.#offsets.add(table);
      for (let slot = 0; slot < Math.min(size, 8); slot++) this.#add('bitmaps', table + 8 * slot, 8);
      at = Math.ceil((at + 24 + this.#number(at + 18, 2) + this.#number(at + 20, 4)) / 8) * 8;
    }
  }

  #findLuks(start: number): void {
    this.#offsets.add(start);
    const addField = (at: number, width: number): void => {
      if (width <= 8) this.#add('LUKS', at, width);
      else this.#addBytes('LUKS', at, Math.min(width, 12));
    };
    for (const [at, width] of Object.values(LUKS_FIELDS)) addField(start + at, width);
    for (let slot = 0; slot < 8; slot++) {
      for (const [at, width] of Object.values(SLOT_FIELDS)) {
        addField(start + SLOTS_OFFSET + slot * SLOT_SIZE + at, width);
      }
    }
    this.#addBytes('LUKS', start + 4096, 4);
  }

  #findL1(offset: number, size: number): void {
    this.#offsets.add(offset);
    let zeros = 0;
    for (let index = 0; index < Math.min(size, MAX_ENTRIES); index++) {
      const at = offset + 8 * index;
      const entry = this.#word(at, 8);
      if (entry === 0n && zeros++ > 1) continue;
      this.#add('L1', at, 8);
      if (entry !== 0n) this.#try(() => this.#findL2(Number(entry & OFFSET_MASK)));
    }
  }

  #findL2(offset: number): void {
    this.#offsets.add(offset);
    const extended = (this.#word(HEADER_FIELDS.incompatibleFeatures[0], 8) & EXTENDED_L2) !== 0n;
    const stride = extended ? 16 : 8;
    let zeros = 0;
    for (let at = offset; at < offset + this.#clusterSize; at += stride) {
      const entry = this.#word(at, 8);
      if (entry === 0n && zeros++ > 1) continue;
      if (this.#fields.L2.length > 4 * MAX_ENTRIES) return;
      this.#add('L2', at, 8);
      if (extended) this.#add('L2', at + 8, 8);
      if ((entry & COMPRESSED) !== 0n) this.#findCompressed(entry);
      else if (entry !== 0n) this.#offsets.add(Number(entry & OFFSET_MASK));
    }
  }

  #findCompressed(entry: bigint): void {
    const offsetBits = 62n - (BigInt(Math.log2(this.#clusterSize)) - 8n);
    const offset = Number(entry & ((1n << offsetBits) - 1n));
    this.#offsets.add(offset);
    this.#addBytes('compressed data', offset, 16);
  }

  #findRefcounts(): void {
    const table = this.#header('refcountTableOffset');
    this.#offsets.add(table);
    const width = Math.max(1, 2 ** this.#header('refcountOrder') / 8);
    for (let index = 0; index < 8; index++) {
      this.#add('refcounts', table + 8 * index, 8);
      const block = this.#number(table + 8 * index, 8);
      if (block === 0 || !Number.isSafeInteger(block)) continue;
      this.#offsets.add(block);
      if (width > 8) continue;
      for (let entry = 0; entry < MAX_ENTRIES; entry++) this.#add('refcounts', block + entry * width, width);
    }
  }

  #findSnapshots(): void {
    let at = this.#header('snapshotsOffset');
    if (at === 0) return;
    this.#offsets.add(at);
    for (let index = 0; index < Math.min(this.#header('nbSnapshots'), MAX_ENTRIES); index++) {
      for (const [field, width] of SNAPSHOT_FIELDS) this.#add('snapshots', at + field, width);
      const [table, size] = [this.#number(at, 8), this.#number(at + 8, 4)];
      this.#try(() => this.#findL1(table, size));
      const lengths = this.#number(at + 12, 2) + this.#number(at + 14, 2) + this.#number(at + 36, 4);
      at = Math.ceil((at + 40 + lengths) / 8) * 8;
    }
  }
}

/** Offset and width, from docs/interop/qcow2.rst, "Snapshots", the beginning of the extra data included. */
const SNAPSHOT_FIELDS: readonly (readonly [number, number])[] = [
  [0, 8],
  [8, 4],
  [12, 2],
  [14, 2],
  [16, 4],
  [20, 4],
  [24, 8],
  [32, 4],
  [36, 4],
  [40, 8],
  [48, 8],
];
