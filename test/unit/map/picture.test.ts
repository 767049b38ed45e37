import { expect } from 'chai';
import type { Paint } from '../../../src/cli/style.js';
import { plain } from '../../../src/cli/style.js';
import { displayWidth } from '../../../src/display-width.js';
import { LayerTotals, type MapSummary } from '../../../src/map/cells.js';
import type { MapExtent } from '../../../src/map/extents.js';
import { type Canvas, Picture } from '../../../src/map/picture.js';
import { SvgReport } from '../../../src/map/svg.js';
import { elementsOf } from '../../support/xml.js';
import { extent } from '../support/map-extent.js';

const GIB = 2 ** 30;
const CANVAS: Canvas = { columns: 80, paint: plain, unicode: true };
const LAYERS = [
  { file: '/a/top.qcow2', format: 'qcow2', clusterSize: 65536 },
  { file: '/a/base.raw', format: 'raw', clusterSize: null },
];
const EXTENTS = [
  extent('data', 0, GIB / 2, 0),
  extent('shared', GIB / 2, GIB / 2, 0),
  extent('data', GIB, GIB, 1),
  extent('absent', 2 * GIB, 2 * GIB, 1),
];

function summaryOf(extents: readonly MapExtent[], layers: MapSummary['layers']): MapSummary {
  const totals = new LayerTotals(layers.length);
  for (const each of extents) totals.add(each);
  const last = extents.at(-1);
  const size = last === undefined ? 0 : last.start + last.length;
  return { image: layers[0]!.file, snapshot: undefined, size, layers, totals };
}

function draw(
  canvas: Partial<Canvas> = {},
  extents = EXTENTS,
  layers: MapSummary['layers'] = LAYERS,
): string {
  const picture = new Picture(summaryOf(extents, layers), { ...CANVAS, ...canvas });
  for (const each of extents) picture.cells.add(each);
  return picture.text();
}

describe('the picture of a disk', () => {
  it('has a strip for each layer, an axis below, and a legend of what occurs', () => {
    expect(draw()).to.equal(
      [
        'image:         /a/top.qcow2',
        'disk size:     4 GiB (4294967296 bytes)',
        'cluster size:  64 KiB',
        '',
        'LAYER  FILE       FORMAT  CLUSTER  DATA     SHARED   OF DISK',
        '0      top.qcow2  qcow2   64 KiB   512 MiB  512 MiB  25%',
        '1      base.raw   raw     -        1 GiB    -        25%',
        '',
        '0 top.qcow2 │████████▓▓▓▓▓▓▓▓▓                                                 │',
        '1 base.raw  │                █████████████████·································│',
        '            └────────┴───────┴───────┴────────┴───────┴───────┴────────────────┘',
        '            0        512 MiB 1 GiB   1.5 GiB  2 GiB   2.5 GiB 3 GiB        4 GiB',
        '',
        '█ data 1.5 GiB (37.5%)   ▓ shared with snapshots 512 MiB (12.5%)',
        '· nothing stored 2 GiB (50%)     (blank) in another layer',
        'Each character stands for 62.1 MiB: damage if there is any, else the kind with',
        'most of the data, else zeros.',
      ].join('\n'),
    );
  });

  it('has strips that lie one below the other, however wide the characters of the names', () => {
    const layers = LAYERS.map((layer, depth) => ({ ...layer, file: depth === 0 ? '/日本語.qcow2' : '/b' }));
    const strips = draw({}, EXTENTS, layers)
      .split('\n')
      .filter((line) => line.includes('│'));
    expect(strips).to.have.length(2);
    for (const edge of ['indexOf', 'lastIndexOf'] as const) {
      const columns = strips.map((line) => displayWidth(line.slice(0, line[edge]('│'))));
      expect(columns[0]).to.equal(columns[1]);
    }
    expect(displayWidth(strips[0]!)).to.equal(CANVAS.columns);
  });

  it('fits, in any width from 40 columns on, whatever the names', () => {
    const layers = LAYERS.map((layer, depth) => ({ ...layer, file: `/${'name'.repeat(40)}-${depth}` }));
    for (let columns = 40; columns <= 200; columns++) {
      for (const given of [layers, layers.slice(0, 1)]) {
        const extents = EXTENTS.map((each) => ({ ...each, depth: Math.min(each.depth, given.length - 1) }));
        const lines = draw({ columns }, extents, given).split('\n').slice(3);
        for (const line of lines) expect(line.length, `${columns} columns: ${line}`).to.be.at.most(columns);
        expect(lines.join('\n')).to.contain(given.length === 1 ? 'LAYER' : '-1 │');
      }
    }
  });

  it('has at most eight rows for a single layer, each with the place where it starts', () => {
    for (let bits = 9; bits < 50; bits++) {
      const size = 3 * 2 ** bits;
      const text = draw({}, [extent('data', 0, size)], LAYERS.slice(0, 1));
      const rows = text.split('\n').filter((line) => /^ *\d.*█$/.test(line));
      expect(rows.length, `a disk of ${size} bytes`).to.be.within(1, 8);
      expect(rows[0]).to.match(/^ *0 {2}█/);
    }
  });

  it('is painted run by run', () => {
    const paint: Paint = (colour, text) => `<${colour}>${text}</>`;
    expect(draw({ paint })).to.match(/│<green>█+<\/><yellow>▓+<\/> +│\n/);
  });

  it('has ASCII alone where nothing else can be shown', () => {
    const text = draw({ unicode: false, columns: 40 });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
    expect(text).to.match(/^[\x00-\x7f]*$/);
    expect(text).to.match(/\|#+%+ +\|\n/);
  });

  it('has no blanks at line ends', () => {
    expect(draw()).to.not.match(/ $/m);
    expect(draw({}, [extent('data', 0, GIB)], LAYERS.slice(0, 1))).to.not.match(/ $/m);
  });
});

describe('the report on a disk', () => {
  function report(summary: MapSummary, extents: readonly MapExtent[]): string {
    const svg = new SvgReport(summary);
    for (const each of extents) svg.cells.add(each);
    return svg.text();
  }

  it('is well-formed whatever names hold', () => {
    const evil = `<&"'>]]>\ud800\ufffe\u0000\u202e`;
    const layers = LAYERS.map((layer) => ({ ...layer, file: `/${evil}`, format: evil }));
    const summary = { ...summaryOf(EXTENTS, layers), snapshot: evil };
    const texts = elementsOf(report(summary, EXTENTS)).map(({ text }) => text);
    const shown = `<&"'>]]>\ufffd\ufffd\\u0000\\u202e`;
    expect(texts).to.include(`Map of ${shown}`);
    expect(texts.some((text) => text.includes(`snapshot ${shown}`))).to.equal(true);
  });

  it('keeps everything inside its frame, for many layers, too', () => {
    const layers = Array.from({ length: 40 }, (_, depth) => ({
      file: `/layer-${depth}`,
      format: 'qcow2',
      clusterSize: 65536,
    }));
    const extents = layers.map((_, depth) => extent('compressed', depth * GIB, GIB, depth));
    const elements = elementsOf(report(summaryOf(extents, layers), extents));
    const [, , width, height] = elements[0]!.attributes['viewBox']!.split(' ').map(Number);
    const number = (text: string | undefined): number => Number(text ?? 0);
    for (const { name, attributes } of elements
      .slice(1)
      .filter(({ name }) => name === 'rect' || name === 'text')) {
      if (attributes['width'] === '100%') continue;
      expect(number(attributes['x']) + number(attributes['width']), name).to.be.at.most(width!);
      expect(number(attributes['y']) + number(attributes['height']), name).to.be.at.most(height!);
    }
    const filled = elements.filter(({ attributes }) => attributes['fill'] === '#009e73');
    expect(filled.length).to.equal(layers.length + 1);
  });

  it('shows a disk without a byte', () => {
    expect(elementsOf(report(summaryOf([], LAYERS), [])).some(({ text }) => text === '0 bytes')).to.equal(
      true,
    );
  });
});
