/** What the parts of a disk hold: bytes by kind, in cells of one size, for each layer. */
import type { MapExtent } from './extents.js';

/** In the order in which they are told to people; the first three hold data. */
export const KINDS = ['data', 'shared', 'compressed', 'zero', 'absent', 'damaged'] as const;
export type Kind = (typeof KINDS)[number];

export const KIND_NAMES: Readonly<Record<Kind, string>> = {
  data: 'data',
  shared: 'shared with snapshots',
  compressed: 'compressed data',
  zero: 'zeros',
  absent: 'nothing stored',
  damaged: 'damaged',
};

/** How a cell that holds several kinds is shown, in words. */
export const CELL_RULE = 'damage if there is any, else the kind with most of the data, else zeros';

const INDEX = Object.fromEntries(KINDS.map((kind, index) => [kind, index])) as Record<Kind, number>;
const DATA_KINDS = [INDEX.data, INDEX.shared, INDEX.compressed];

export function kindOf(extent: MapExtent): Kind {
  if (extent.problem !== undefined) return 'damaged';
  if (!extent.present) return 'absent';
  if (extent.zero) return 'zero';
  if (extent.compressed) return 'compressed';
  return extent.shared ? 'shared' : 'data';
}

export class Cells {
  /** Cells of each layer. */
  readonly count: number;
  /** Bytes of disk in each cell; the last one may have fewer. */
  readonly bytes: number;
  readonly #counters: Float64Array;

  constructor(layers: number, count: number, bytes: number) {
    this.count = count;
    this.bytes = bytes;
    this.#counters = new Float64Array(layers * count * KINDS.length);
  }

  add(extent: MapExtent): void {
    const kind = INDEX[kindOf(extent)];
    const end = extent.start + extent.length;
    const first = extent.depth * this.count;
    let cell = Math.min(Math.floor(extent.start / this.bytes), this.count - 1);
    for (let at = extent.start; at < end; cell++) {
      const next = cell === this.count - 1 ? end : Math.min(end, (cell + 1) * this.bytes);
      this.#counters[(first + cell) * KINDS.length + kind]! += next - at;
      at = next;
    }
  }

  /** What the cell is shown as, by `CELL_RULE`; undefined where the disk shows nothing of the layer. */
  shown(layer: number, cell: number): Kind | undefined {
    const base = (layer * this.count + cell) * KINDS.length;
    const bytes = (kind: number): number => this.#counters[base + kind]!;
    if (bytes(INDEX.damaged) > 0) return 'damaged';
    let most = INDEX.data;
    for (const kind of DATA_KINDS) if (bytes(kind) > bytes(most)) most = kind;
    for (const kind of [most, INDEX.zero, INDEX.absent]) if (bytes(kind) > 0) return KINDS[kind];
    return undefined;
  }
}

/** Bytes of the disk by kind. */
export type Totals = Record<Kind, number>;

export const noBytes = (): Totals => ({ data: 0, shared: 0, compressed: 0, zero: 0, absent: 0, damaged: 0 });

/** Bytes of the disk by the layer that they come from. */
export class LayerTotals {
  readonly layers: readonly Totals[];

  constructor(layers: number) {
    this.layers = Array.from({ length: layers }, noBytes);
  }

  add(extent: MapExtent): void {
    this.layers[extent.depth]![kindOf(extent)] += extent.length;
  }

  /** Of all layers together. */
  get sum(): Totals {
    const sum = noBytes();
    for (const layer of this.layers) for (const kind of KINDS) sum[kind] += layer[kind];
    return sum;
  }
}

/** What is told of a disk besides its cells. */
export interface MapSummary {
  readonly image: string;
  readonly snapshot: string | undefined;
  /** Bytes. */
  readonly size: number;
  readonly layers: readonly {
    readonly file: string;
    readonly format: string;
    readonly clusterSize: number | null;
  }[];
  readonly totals: LayerTotals;
}
