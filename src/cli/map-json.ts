/** The two kinds of JSON that `qcow2fs map` prints, a piece at a time: a disk may have millions of runs. */
import type { LayerTotals, MapSummary } from '../map/cells.js';
import { ExtentMerger, type MapExtent, type MergeRule } from '../map/extents.js';
import { printableJson } from '../printable.js';
import { jsonText, printPart } from './output.js';
import { TextBuffer } from './text-buffer.js';

/** Bytes that are written at once. */
const PART_BYTES = 64 * 1024;

/** A list of runs between a head and a tail. */
export interface MapFormat {
  readonly rule: MergeRule;
  readonly head: string;
  /** What stands around a run. */
  readonly before: string;
  readonly between: string;
  readonly after: string;
  tail(totals: LayerTotals, isEmpty: boolean): string;
}

/** Exactly what `qemu-img map --output=json` prints, with the key `compressed` that QEMU has since 8.2. */
export const QEMU_FORMAT: MapFormat = {
  rule: 'like-qemu',
  head: '[',
  before: '{ ',
  between: ',\n',
  after: '}',
  /** For a disk of size 0 QEMU prints a run of length 0. */
  tail(_totals, isEmpty) {
    const nothing =
      '{ "start": 0, "length": 0, "depth": 0, "present": false, "zero": false, "data": false, "compressed": false}';
    return `${isEmpty ? nothing : ''}]\n`;
  },
};

/** The versioned object: contrib/schema/map-1.json. */
export function envelopeFormat({ image, snapshot, size, layers }: MapSummary): MapFormat {
  const object = jsonText('map', { image, snapshot: snapshot ?? null, size, layers });
  return {
    rule: 'all',
    head: `${object.slice(0, object.lastIndexOf('\n}'))},\n  "extents": [`,
    before: '\n    { ',
    between: ',',
    after: ' }',
    tail(totals) {
      const lines = totals.layers.map((bytes, depth) => `    ${JSON.stringify({ depth, ...bytes })}`);
      return `\n  ],\n  "totals": [\n${lines.join(',\n')}\n  ]\n}\n`;
    },
  };
}

const START = Buffer.from('"start": ');
const LENGTH = Buffer.from(', "length": ');
const OFFSET = Buffer.from(', "offset": ');

/** Prints the runs as they come. */
export class RunList {
  readonly #format: MapFormat;
  readonly #merger: ExtentMerger;
  readonly #text = new TextBuffer();
  readonly #before: Uint8Array;
  readonly #between: Uint8Array;
  readonly #after: Uint8Array;
  /** What a run says in words, by the bits of `wordsKey`. */
  readonly #words = new Map<number, Uint8Array>();
  #isEmpty = true;

  constructor(format: MapFormat) {
    this.#format = format;
    this.#before = Buffer.from(format.before);
    this.#between = Buffer.from(format.between);
    this.#after = Buffer.from(format.after);
    this.#text.text(format.head);
    this.#merger = new ExtentMerger(format.rule, (extent) => this.#put(extent));
  }

  add(extent: MapExtent): void {
    this.#merger.add(extent);
  }

  /** What came since, if it is worth a call. */
  async print(): Promise<void> {
    if (this.#text.length >= PART_BYTES) await printPart(this.#text.take());
  }

  async end(totals: LayerTotals): Promise<void> {
    this.#merger.end();
    this.#text.text(this.#format.tail(totals, this.#isEmpty));
    await printPart(this.#text.take());
  }

  #put(extent: MapExtent): void {
    const text = this.#text;
    if (!this.#isEmpty) text.piece(this.#between);
    this.#isEmpty = false;
    text.piece(this.#before);
    text.piece(START);
    text.number(extent.start);
    text.piece(LENGTH);
    text.number(extent.length);
    text.piece(this.#wordsOf(extent));
    if (extent.offset !== undefined) {
      text.piece(OFFSET);
      text.number(extent.offset);
    }
    if (extent.problem !== undefined) text.text(`, "problem": ${printableJson(extent.problem)}`);
    text.piece(this.#after);
  }

  #wordsOf(extent: MapExtent): Uint8Array {
    const key = wordsKey(extent);
    let words = this.#words.get(key);
    if (words === undefined) {
      words = Buffer.from(describe(extent, this.#format.rule === 'all'));
      this.#words.set(key, words);
    }
    return words;
  }
}

/** All that the words depend on. */
function wordsKey({ depth, present, zero, data, compressed, shared }: MapExtent): number {
  return (
    (depth << 5) |
    (present ? 16 : 0) |
    (zero ? 8 : 0) |
    (data ? 4 : 0) |
    (compressed ? 2 : 0) |
    (shared ? 1 : 0)
  );
}

function describe(
  { depth, present, zero, data, compressed, shared }: MapExtent,
  withShared: boolean,
): string {
  return (
    `, "depth": ${depth}, "present": ${present}, "zero": ${zero}, "data": ${data}, "compressed": ${compressed}` +
    (withShared ? `, "shared": ${shared}` : '')
  );
}
