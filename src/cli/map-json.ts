/** The two kinds of JSON that `qcow2fs map` prints, a piece at a time: a disk may have millions of runs. */
import type { LayerTotals, MapSummary } from '../map/cells.js';
import type { MapExtent, MergeRule } from '../map/extents.js';
import { jsonText } from './output.js';

/** A list of runs, one a line, between a head and a tail. */
export interface MapFormat {
  readonly rule: MergeRule;
  head(): string;
  /** @param first of all runs */
  run(extent: MapExtent, first: boolean): string;
  tail(totals: LayerTotals): string;
}

/** Exactly what `qemu-img map --output=json` prints, with the key `compressed` that QEMU has since 8.2. */
export class QemuFormat implements MapFormat {
  readonly rule = 'like-qemu';
  #isEmpty = true;

  head(): string {
    return '[';
  }

  run(extent: MapExtent, first: boolean): string {
    this.#isEmpty = false;
    return `${first ? '' : ',\n'}{ ${keys(extent)}${rest(extent)}}`;
  }

  /** For a disk of size 0 QEMU prints a run of length 0. */
  tail(): string {
    const nothing =
      '{ "start": 0, "length": 0, "depth": 0, "present": false, "zero": false, "data": false, "compressed": false}';
    return `${this.#isEmpty ? nothing : ''}]\n`;
  }
}

/** The versioned object: contrib/schema/map-1.json. */
export class EnvelopeFormat implements MapFormat {
  readonly rule = 'all';
  readonly #summary: MapSummary;

  constructor(summary: MapSummary) {
    this.#summary = summary;
  }

  head(): string {
    const { image, snapshot, size, layers } = this.#summary;
    const object = jsonText('map', { image, snapshot: snapshot ?? null, size, layers });
    return `${object.slice(0, object.lastIndexOf('\n}'))},\n  "extents": [`;
  }

  run(extent: MapExtent, first: boolean): string {
    return `${first ? '' : ','}\n    { ${keys(extent)}, "shared": ${extent.shared}${rest(extent)} }`;
  }

  tail(totals: LayerTotals): string {
    const lines = totals.layers.map((bytes, depth) => `    ${JSON.stringify({ depth, ...bytes })}`);
    return `\n  ],\n  "totals": [\n${lines.join(',\n')}\n  ]\n}\n`;
  }
}

function keys({ start, length, depth, present, zero, data, compressed }: MapExtent): string {
  return (
    `"start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
    `"zero": ${zero}, "data": ${data}, "compressed": ${compressed}`
  );
}

function rest({ offset, problem }: MapExtent): string {
  return (
    (offset === undefined ? '' : `, "offset": ${offset}`) +
    (problem === undefined ? '' : `, "problem": ${JSON.stringify(problem)}`)
  );
}
