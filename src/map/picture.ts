/**
 * A disk as people see it in a terminal: a table of its layers, then what is where. A disk of one layer is shown in
 * rows, like a page; one of several in a strip for each layer, all of the same scale.
 */
import { basename } from 'node:path';
import { humanBytes, table } from '../cli/output.js';
import type { Colour, Paint } from '../cli/style.js';
import { displayWidth, padColumns, shortened } from '../display-width.js';
import { printable } from '../printable.js';
import { percent, ticks } from './axis.js';
import { CELL_RULE, Cells, KIND_NAMES, KINDS, type Kind, type MapSummary } from './cells.js';

/** What the terminal can do. */
export interface Canvas {
  readonly columns: number;
  readonly paint: Paint;
  /** More than ASCII. */
  readonly unicode: boolean;
}

const MAX_ROWS = 8;
/** Room for where a row starts: `1023 MiB`. */
const ROW_LABEL = 9;
/** Cells of a row come in groups, so that rows start at rounder numbers. */
const GROUP = 8;
const MIN_STRIP = 10;
const CELLS_PER_TICK = 8;
const MIN_CELL_BYTES = 512;
/** Letters that a name has room for, whatever the width. */
const MIN_NAME = 12;
/** Letters that a name has room for before format and cluster size do. */
const GOOD_NAME = 20;

const COLOURS: Readonly<Record<Kind, Colour>> = {
  data: 'green',
  shared: 'yellow',
  compressed: 'cyan',
  zero: 'blue',
  absent: 'dim',
  damaged: 'red',
};
const GLYPHS: Readonly<Record<Kind, string>> = {
  data: '█',
  shared: '▓',
  compressed: '▒',
  zero: '░',
  absent: '·',
  damaged: '!',
};
const ASCII_GLYPHS: Readonly<Record<Kind, string>> = {
  data: '#',
  shared: '%',
  compressed: '+',
  zero: '-',
  absent: '.',
  damaged: '!',
};
const TITLES: Readonly<Record<Kind, string>> = {
  data: 'DATA',
  shared: 'SHARED',
  compressed: 'COMPRESSED',
  zero: 'ZEROS',
  absent: 'NOTHING',
  damaged: 'DAMAGED',
};

export class Picture {
  readonly cells: Cells;
  readonly #summary: MapSummary;
  readonly #canvas: Canvas;
  /** Of the strips; empty for a single layer. */
  readonly #labels: readonly string[];
  readonly #rowCells: number;

  constructor(summary: MapSummary, canvas: Canvas) {
    const { layers, size } = summary;
    this.#summary = summary;
    this.#canvas = canvas;
    if (layers.length === 1) {
      this.#labels = [];
      this.#rowCells = Math.max(1, Math.floor((canvas.columns - ROW_LABEL - 2) / GROUP)) * GROUP;
      const least = layers[0]?.clusterSize ?? MIN_CELL_BYTES;
      const bytes = 2 ** Math.ceil(Math.log2(Math.max(least, size / (this.#rowCells * MAX_ROWS))));
      this.cells = new Cells(1, Math.max(1, Math.ceil(size / bytes)), bytes);
    } else {
      this.#labels = this.#stripLabels();
      const left = canvas.columns - displayWidth(this.#labels[0]!) - 3;
      this.#rowCells = Math.max(MIN_STRIP, left);
      this.cells = new Cells(layers.length, this.#rowCells, Math.max(1, size / this.#rowCells));
    }
  }

  text(): string {
    const drawing = this.#summary.layers.length === 1 ? this.#rows() : this.#strips();
    const bytes = humanBytes(Math.round(this.cells.bytes));
    return [
      this.#facts(),
      '',
      this.#table(),
      '',
      ...drawing,
      '',
      ...this.#legend(),
      ...this.#wrapped(`Each character stands for ${bytes}: ${CELL_RULE}.`.split(' '), ' '),
    ].join('\n');
  }

  #facts(): string {
    const { image, snapshot, size, layers } = this.#summary;
    const clusterSize = layers[0]?.clusterSize ?? 0;
    const rows = [
      ['image:', printable(image)],
      ...(snapshot === undefined ? [] : [['snapshot:', printable(snapshot)]]),
      ['disk size:', `${humanBytes(size)} (${size} bytes)`],
      ['cluster size:', humanBytes(clusterSize)],
    ];
    return table(rows);
  }

  /** What the disk shows of each layer. */
  #table(): string {
    const { layers, totals, size } = this.#summary;
    const kinds = KINDS.filter((kind) => kind !== 'absent' && totals.sum[kind] > 0);
    const stored = layers.map((_, depth) =>
      kinds.reduce((sum, kind) => sum + totals.layers[depth]![kind], 0),
    );
    const parts = [['OF DISK'], ...stored.map((bytes) => [percent(bytes, size)])];
    const figures = layers.map((_, depth) => kinds.map((kind) => totals.layers[depth]![kind]));
    const byKind = beside(
      [kinds.map((kind) => TITLES[kind]), ...figures.map((row) => row.map(figure))],
      parts,
    );
    const inSum = beside([['STORED'], ...stored.map((bytes) => [figure(bytes)])], parts);
    const about = layers.map(({ format, clusterSize }) => [
      format,
      clusterSize === null ? '-' : humanBytes(clusterSize),
    ]);
    const left = [['LAYER'], ...layers.map((_, depth) => [String(depth)])];
    const middle = [['FORMAT', 'CLUSTER'], ...about];
    const longest = Math.max(...layers.map(({ file }) => displayWidth(printable(basename(file)))));
    const full = beside(middle, byKind);
    const room = (rows: string[][]): number => this.#canvas.columns - widthOf(beside(left, rows)) - 2;
    // What there is no room for is said in the legend, if only for all layers together.
    const narrow = room(byKind) >= MIN_NAME ? byKind : inSum;
    const rest = room(full) >= Math.min(longest, GOOD_NAME) ? full : narrow;
    const most = Math.max(MIN_NAME, room(rest));
    const names = [['FILE'], ...layers.map(({ file }) => [this.#name(file, most)])];
    return table(beside(beside(left, names), rest));
  }

  #name(file: string, most: number): string {
    return shortened(printable(basename(file)), most, this.#canvas.unicode ? '…' : '...');
  }

  #rows(): string[] {
    const { cells } = this;
    const starts: number[] = [];
    for (let cell = 0; cell < cells.count; cell += this.#rowCells) starts.push(cell);
    const labels = starts.map((cell) => (cell === 0 ? '0' : humanBytes(cell * cells.bytes)));
    const width = Math.max(...labels.map((label) => label.length));
    return starts.map((cell, row) => {
      const drawn = this.#draw(0, cell, Math.min(cell + this.#rowCells, cells.count));
      return `${labels[row]!.padStart(width)}  ${drawn}`;
    });
  }

  #stripLabels(): string[] {
    const { layers } = this.#summary;
    const digits = String(layers.length - 1).length;
    const most = Math.max(MIN_NAME, Math.floor(this.#canvas.columns / 4) - digits - 1);
    const labels = layers.map(
      ({ file }, depth) => `${String(depth).padStart(digits)} ${this.#name(file, most)}`,
    );
    const width = Math.max(...labels.map(displayWidth));
    return labels.map((label) => padColumns(label, width));
  }

  #strips(): string[] {
    const edge = this.#canvas.unicode ? '│' : '|';
    const strips = this.#labels.map(
      (label, layer) => `${label} ${edge}${this.#draw(layer, 0, this.#rowCells)}${edge}`,
    );
    const indent = ' '.repeat(displayWidth(this.#labels[0]!) + 1);
    return [...strips, ...this.#axis().map((line) => indent + line)];
  }

  /** A ruler below the strips, edges included, and the positions that it marks. */
  #axis(): [string, string] {
    const { size } = this.#summary;
    const width = this.#rowCells + 2;
    const [left, mark, line, right] = this.#canvas.unicode ? '└┴─┘' : '++-+';
    const ruler = [left!, ...line!.repeat(this.#rowCells), right!];
    const end = humanBytes(size);
    let text = '';
    for (const position of ticks(size, Math.max(1, Math.floor(this.#rowCells / CELLS_PER_TICK)))) {
      const column = position === 0 ? 0 : 1 + Math.floor(position / this.cells.bytes);
      const label = position === 0 ? '0' : humanBytes(position);
      if (column + label.length + 1 > width - end.length) break;
      if (text !== '' && column < text.length + 1) continue;
      if (column > 0) ruler[column] = mark!;
      text = text.padEnd(column) + label;
    }
    return [ruler.join(''), text.padEnd(width - end.length) + end];
  }

  #draw(layer: number, from: number, to: number): string {
    let drawn = '';
    for (let cell = from; cell < to; ) {
      const kind = this.cells.shown(layer, cell);
      let end = cell + 1;
      while (end < to && this.cells.shown(layer, end) === kind) end++;
      const run = (kind === undefined ? ' ' : this.#glyph(kind)).repeat(end - cell);
      drawn += kind === undefined ? run : this.#canvas.paint(COLOURS[kind], run);
      cell = end;
    }
    return drawn;
  }

  #glyph(kind: Kind): string {
    return (this.#canvas.unicode ? GLYPHS : ASCII_GLYPHS)[kind];
  }

  /** Of the kinds that occur, with what they come to. */
  #legend(): string[] {
    const { layers, totals, size } = this.#summary;
    const { sum } = totals;
    const items = KINDS.filter((kind) => sum[kind] > 0).map((kind) => ({
      glyph: this.#canvas.paint(COLOURS[kind], this.#glyph(kind)),
      text: ` ${KIND_NAMES[kind]} ${humanBytes(sum[kind])} (${percent(sum[kind], size)})`,
    }));
    if (layers.length > 1) items.push({ glyph: ' ', text: ' (blank) in another layer' });
    const lines: string[] = [];
    let width = 0;
    for (const { glyph, text } of items) {
      const item = glyph + text;
      const length = 1 + text.length;
      if (lines.length > 0 && width + 3 + length <= this.#canvas.columns) {
        lines.push(`${lines.pop()}   ${item}`);
        width += 3 + length;
      } else {
        lines.push(item);
        width = length;
      }
    }
    return lines;
  }

  #wrapped(words: readonly string[], between: string): string[] {
    const lines: string[] = [];
    for (const word of words) {
      const last = lines.at(-1);
      if (last !== undefined && last.length + between.length + word.length <= this.#canvas.columns) {
        lines[lines.length - 1] = last + between + word;
      } else lines.push(word);
    }
    return lines;
  }
}

const figure = (bytes: number): string => (bytes === 0 ? '-' : humanBytes(bytes));

/** Rows with the cells of both. */
function beside(left: readonly string[][], right: readonly string[][]): string[][] {
  return left.map((row, index) => [...row, ...right[index]!]);
}

function widthOf(rows: readonly string[][]): number {
  return Math.max(...table(rows).split('\n').map(displayWidth));
}
