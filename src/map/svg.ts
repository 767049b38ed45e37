/**
 * The map as an SVG file for a report: a strip for each layer, an axis, a legend with totals. Needs nothing else: no
 * font, script or style from elsewhere. The same disk gives the same bytes.
 */
import { basename } from 'node:path';
import { humanBytes } from '../cli/output.js';
import { shortened } from '../display-width.js';
import { printable } from '../printable.js';
import { percent, ticks } from './axis.js';
import { CELL_RULE, Cells, KIND_NAMES, KINDS, type Kind, type MapSummary } from './cells.js';

const WIDTH = 1000;
const MARGIN = 20;
const STRIP_WIDTH = WIDTH - 2 * MARGIN;
const STRIP_HEIGHT = 28;
const STRIP_DISTANCE = 58;
const FIRST_STRIP = 84;
const MAX_TICKS = 8;
const LEGEND_ROW = 20;
/** Letters of a name that fit. */
const MAX_NAME = 36;
const MAX_TITLE = 90;

const SHORT_NAMES: Readonly<Record<Kind, string>> = {
  ...KIND_NAMES,
  shared: 'shared',
  compressed: 'compressed',
};

/** After Okabe and Ito: told apart by people with any kind of colour vision, and by their lightness in print. */
const FILLS: Readonly<Record<Kind, string>> = {
  data: '#0072b2',
  shared: '#e69f00',
  compressed: '#009e73',
  zero: '#9ecae1',
  absent: '#f2f2f2',
  damaged: '#d50000',
};

export class SvgReport {
  readonly cells: Cells;
  readonly #summary: MapSummary;

  constructor(summary: MapSummary) {
    const { layers, size } = summary;
    this.#summary = summary;
    this.cells = new Cells(layers.length, STRIP_WIDTH, Math.max(1, size / STRIP_WIDTH));
  }

  text(): string {
    const { layers } = this.#summary;
    const axis = FIRST_STRIP + (layers.length - 1) * STRIP_DISTANCE + STRIP_HEIGHT;
    const legend = this.#legend(axis + 64);
    const height = axis + 64 + legend.length * LEGEND_ROW + MARGIN;
    return [
      '<?xml version="1.0" encoding="UTF-8"?>',
      `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13" fill="#1a1a1a" role="img">`,
      ...this.#head(),
      ...layers.flatMap((_, layer) => this.#strip(layer, FIRST_STRIP + layer * STRIP_DISTANCE)),
      ...this.#axis(axis),
      ...legend,
      label(MARGIN, height - MARGIN / 2, this.#note(), ' font-size="11" fill="#595959"'),
      '</svg>',
      '',
    ].join('\n');
  }

  #note(): string {
    const note = `Each pixel of width stands for ${humanBytes(Math.round(this.cells.bytes))}: ${CELL_RULE}.`;
    return this.#summary.layers.length === 1 ? note : `${note} White: in another layer.`;
  }

  #head(): string[] {
    const { image, snapshot, size, layers } = this.#summary;
    const title = `Map of ${name(image, MAX_TITLE)}`;
    const facts = [
      `disk of ${humanBytes(size)} (${size} bytes)`,
      ...(snapshot === undefined ? [] : [`snapshot ${shortened(printable(snapshot), MAX_NAME, '…')}`]),
      ...(layers.length === 1 ? [] : [`${layers.length} layers`]),
    ].join(', ');
    return [
      `<title>${escaped(title)}</title>`,
      `<desc>${escaped(facts)}</desc>`,
      `<rect width="100%" height="100%" fill="#ffffff"/>`,
      label(MARGIN, 32, title, ' font-size="18" font-weight="bold"'),
      label(MARGIN, 52, facts, ' fill="#595959"'),
    ];
  }

  #strip(layer: number, top: number): string[] {
    const { layers, totals, size } = this.#summary;
    const { file, format, clusterSize } = layers[layer]!;
    const bytes = totals.layers[layer]!;
    const stored = KINDS.filter((kind) => kind !== 'absent' && bytes[kind] > 0);
    const clusters = clusterSize === null ? '' : `, clusters of ${humanBytes(clusterSize)}`;
    const share = stored.map((kind) => `${SHORT_NAMES[kind]} ${humanBytes(bytes[kind])}`).join(', ');
    const part = stored.reduce((sum, kind) => sum + bytes[kind], 0);
    return [
      label(MARGIN, top - 7, `${layer}: ${name(file, MAX_NAME)} (${format}${clusters})`),
      label(
        WIDTH - MARGIN,
        top - 7,
        part === 0 ? 'nothing' : `${share}: ${percent(part, size)}`,
        ' text-anchor="end" font-size="11" fill="#595959"',
      ),
      ...this.#runs(layer, top),
      `<rect x="${MARGIN - 0.5}" y="${top - 0.5}" width="${STRIP_WIDTH + 1}" height="${STRIP_HEIGHT + 1}" fill="none" stroke="#8c8c8c"/>`,
    ];
  }

  #runs(layer: number, top: number): string[] {
    const { cells } = this;
    const runs: string[] = [];
    for (let cell = 0; cell < cells.count; ) {
      const kind = cells.shown(layer, cell);
      let end = cell + 1;
      while (end < cells.count && cells.shown(layer, end) === kind) end++;
      if (kind !== undefined) {
        runs.push(
          `<rect x="${MARGIN + cell}" y="${top}" width="${end - cell}" height="${STRIP_HEIGHT}" fill="${FILLS[kind]}"/>`,
        );
      }
      cell = end;
    }
    return runs;
  }

  #axis(top: number): string[] {
    const { size } = this.#summary;
    const at = (position: number): number => MARGIN + Math.round(position / this.cells.bytes);
    const tick = (x: number): string =>
      `<line x1="${x}" y1="${top + 6}" x2="${x}" y2="${top + 12}" stroke="#1a1a1a"/>`;
    const right = WIDTH - MARGIN;
    const lines = [
      `<line x1="${MARGIN}" y1="${top + 6}" x2="${right}" y2="${top + 6}" stroke="#1a1a1a"/>`,
      tick(right),
      label(right, top + 26, humanBytes(size), ' text-anchor="end"'),
    ];
    for (const position of ticks(size, MAX_TICKS)) {
      const x = at(position);
      lines.push(tick(x));
      const anchor = position === 0 ? '' : ' text-anchor="middle"';
      // The end of the disk has the last word.
      if (x < right - 100)
        lines.push(label(x, top + 26, position === 0 ? '0' : humanBytes(position), anchor));
    }
    return lines;
  }

  #legend(top: number): string[] {
    const { totals, size } = this.#summary;
    const { sum } = totals;
    return KINDS.filter((kind) => sum[kind] > 0).map((kind, row) => {
      const y = top + row * LEGEND_ROW;
      const text = `${KIND_NAMES[kind]}: ${humanBytes(sum[kind])} (${percent(sum[kind], size)})`;
      return (
        `<rect x="${MARGIN}" y="${y - 12}" width="22" height="14" fill="${FILLS[kind]}" stroke="#8c8c8c"/>` +
        label(MARGIN + 30, y, text)
      );
    });
  }
}

function label(x: number, y: number, text: string, attributes = ''): string {
  return `<text x="${x}" y="${y}"${attributes}>${escaped(text)}</text>`;
}

function name(file: string, most: number): string {
  return shortened(printable(basename(file)), most, '…');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** XML knows neither lone surrogates nor U+FFFE and U+FFFF, escaped or not (XML 1.0, 2.2). */
function escaped(text: string): string {
  return text
    .replace(/[\p{Surrogate}\ufffe\uffff]/gu, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
