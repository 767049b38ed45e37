/** One of many that write, erase, read and flush a disk at once: its own stripes, and units that all of them share. */
import fs from 'node:fs';
import { type Random, randomNumbers, type Target } from '../random-guest.js';
import { type Change, now, type Sighting } from './history.js';
import { calmRange, type Layout, type Range, sharedRanges, stripesFor } from './layout.js';
import { MIXED, stampOf, Units, type Value, ZEROS } from './units.js';

export interface Order {
  readonly contender: number;
  readonly contenders: number;
  readonly layout: Layout;
  readonly operations: number;
  readonly seed: number;
  /** A file with what the disk holds first. */
  readonly initial: string;
  /** Share of the changes that erase. */
  readonly erasing: number;
  /** Nothing but reads and flushes, or no reads at all. */
  readonly role: 'both' | 'reader' | 'writer';
}

export interface Report {
  readonly changes: readonly Change[];
  readonly sightings: readonly Sighting[];
  /** The whole disk; only what lies in the contender's own stripes counts. */
  readonly shadow: Buffer;
}

const FLUSHING = 0.04;
/** Freed clusters are used again after the next flush: who only reads has time for many. */
const FLUSHING_READER = 0.25;
/** Of the stripes' uses; parts of encrypted sectors are read, changed and written. */
const NARROW = 0.4;
const NARROW_ENCRYPTED = 0.8;
const READING = 0.35;
const READING_CALM = 0.85;
const MAX_UNITS = 24;

export class Contender {
  readonly #order: Order;
  readonly #target: Target;
  readonly #random: Random;
  readonly #units: Units;
  readonly #shared: readonly Range[];
  readonly #stripes: readonly (readonly Range[])[];
  readonly #shadow: Buffer;
  readonly #changes: Change[] = [];
  readonly #sightings: Sighting[] = [];

  constructor(order: Order, target: Target) {
    const initial = fs.readFileSync(order.initial);
    this.#order = order;
    this.#target = target;
    this.#random = randomNumbers(order.seed * 1000 + order.contender);
    this.#units = new Units(order.layout, initial);
    this.#shared = sharedRanges(order.layout);
    this.#stripes = stripesFor(order.contender, order.contenders);
    this.#shadow = Buffer.from(initial);
  }

  /** @throws Error when its own stripes show something else than it wrote */
  run(): Report {
    const { role, operations } = this.#order;
    const flushing = role === 'reader' ? FLUSHING_READER : FLUSHING;
    for (let operation = 0; operation < operations; operation++) {
      if (this.#random() < flushing) this.#target.flush();
      else if (role === 'reader' || this.#random() < 0.6) this.#useShared(operation);
      else this.#useStripe(operation);
    }
    return { changes: this.#changes, sightings: this.#sightings, shadow: this.#shadow };
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #useShared(operation: number): void {
    const { erasing, contender, layout } = this.#order;
    const calm = layout.calm > 0 && this.#random() < 0.3;
    const reading = this.#reading(calm ? READING_CALM : READING);
    const range = calm ? calmRange(layout) : this.#sharedRange();
    const { size } = this.#units;
    const total = range.length / size;
    const start = this.#below(total);
    const few = 1 + Math.floor(this.#random() ** 3 * MAX_UNITS);
    const dice = this.#random();
    const base = range.offset / size;
    if (dice < reading) {
      this.#see(base + start, Math.min(few, total - start));
    } else if (dice < reading + erasing * (1 - reading)) {
      const cluster = layout.clusterSize / size;
      const wide = cluster >= 1 && this.#random() < 0.8;
      const first = wide ? start - (start % cluster) : start;
      const count = wide ? Math.ceil(few / cluster) * cluster : few;
      this.#change(base + first, Math.min(count, total - first), ZEROS);
    } else {
      this.#change(base + start, Math.min(few, total - start), stampOf(contender, operation));
    }
  }

  /** Mostly one of the two zones, where whole clusters can come and go. */
  #sharedRange(): Range {
    return this.#shared[this.#random() < 0.7 ? this.#below(2) : this.#below(this.#shared.length)]!;
  }

  /** Share of the reads, for one who does both. */
  #reading(share: number): number {
    return { both: share, reader: 1, writer: 0 }[this.#order.role];
  }

  #change(first: number, count: number, value: Value): void {
    const { size } = this.#units;
    const bytes = this.#units.content(value, first, count);
    const how = this.#random() < 0.7 ? 'discard' : 'zero';
    const start = now();
    if (value === ZEROS) this.#target[how](first * size, count * size);
    else this.#target.write(bytes, bytes.length, first * size);
    this.#changes.push({ first, count, value, start, end: now() });
  }

  #see(first: number, count: number): void {
    const { size } = this.#units;
    const bytes = Buffer.alloc(count * size);
    const start = now();
    this.#target.read(bytes, bytes.length, first * size);
    this.#sightings.push(sightingOf(this.#units, bytes, first, { start, end: now() }));
  }

  #useStripe(operation: number): void {
    const { contender, contenders, erasing, layout } = this.#order;
    const narrow = this.#random() < (layout.encrypted ? NARROW_ENCRYPTED : NARROW);
    const own = this.#stripes[narrow ? 0 : 1]!;
    const { offset, length } = own[this.#below(own.length)]!;
    const skip = this.#below(length);
    const at = offset + skip;
    const piece = 1 + this.#below(length - skip);
    const dice = this.#random();
    const reading = this.#reading(READING);
    if (dice < reading) {
      const bytes = Buffer.alloc(piece);
      this.#target.read(bytes, piece, at);
      if (bytes.compare(this.#shadow, at, at + piece) === 0) return;
      const wrong = bytes.findIndex((byte, index) => byte !== this.#shadow[at + index]);
      const where = `byte ${at + wrong}, in a read of ${piece} at ${at}`;
      const found = `is ${bytes[wrong]}, but ${this.#shadow[at + wrong]} was written`;
      throw new Error(`contender ${contender}, operation ${operation}: ${where}, ${found}`);
    }
    if (dice < reading + erasing * (1 - reading)) {
      this.#target[this.#random() < 0.5 ? 'discard' : 'zero'](at, piece);
      this.#shadow.fill(0, at, at + piece);
      return;
    }
    const bytes = Buffer.alloc(piece, 1 + ((operation * contenders + contender) % 255));
    this.#target.write(bytes, piece, at);
    bytes.copy(this.#shadow, at);
  }
}

export function sightingOf(
  units: Units,
  bytes: Buffer,
  first: number,
  { start, end }: { readonly start: number; readonly end: number },
): Sighting {
  const { size } = units;
  const mixed = new Map<number, Buffer>();
  const values = Array.from({ length: bytes.length / size }, (_, index) => {
    const value = units.identify(bytes, index * size, first + index);
    if (value === MIXED) mixed.set(first + index, bytes.subarray(index * size, (index + 1) * size));
    return value;
  });
  return { first, values, mixed, start, end };
}
