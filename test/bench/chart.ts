/** The ratios as horizontal bars, in SVG. */

import { REFERENCE, SUBJECT } from './candidates.js';
import type { Results } from './results.js';
import type { Row } from './rows.js';
import { formatRatio, formatValue, ratio } from './table.js';

const WIDTH = 900;
const TOP = 76;
const STEP = 24;
const BAR = 15;
const DIM = '#6b7280';
/** Where the bars begin and end; the row's title is to the left, its numbers to the right of the bar. */
const [LEFT, RIGHT] = [300, 720];
/** Longer bars are cut off. */
const MOST = 6;

/** One bar for each row that both have a number for. It has a background of its own, to read well on any page. */
export function chart(rows: readonly Row[], results: Results): string {
  const bars = rows.flatMap((row) => {
    const value = ratio(row, results);
    return value === undefined ? [] : [{ row, value }];
  });
  const scale = Math.min(MOST, Math.max(2, ...bars.map(({ value }) => value)));
  const x = (value: number) => LEFT + ((RIGHT - LEFT) * Math.min(value, scale)) / scale;
  const bottom = TOP + bars.length * STEP;
  const drawn = bars.map(({ row, value }, i) => {
    const y = TOP + i * STEP;
    const absolute = `${formatValue(row, results.median(row.id, SUBJECT))} ${row.unit}`;
    const end = x(value);
    const after = (Math.max(end, x(1)) + (value > scale ? 20 : 8)).toFixed(1);
    const colour = value < 1 ? '#d97706' : '#0f766e';
    return [
      `<text x="${LEFT - 10}" y="${y + 12}" text-anchor="end">${escapeXml(row.title)}</text>`,
      `<rect x="${LEFT}" y="${y}" width="${(end - LEFT).toFixed(1)}" height="${BAR}" rx="2" fill="${colour}"/>`,
      ...(value > scale ? [cutOff(end, y, colour)] : []),
      `<text x="${after}" y="${y + 12}"><tspan font-weight="bold">${formatRatio(value)}</tspan> <tspan fill="${DIM}">${absolute}</tspan></text>`,
    ].join('\n');
  });
  const title = `${SUBJECT} relative to ${REFERENCE}, the FUSE export of qemu-storage-daemon`;
  return `\
<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${bottom + 24}" viewBox="0 0 ${WIDTH} ${bottom + 24}" font-family="sans-serif" font-size="13" fill="#1f2937">
<title>${title}</title>
<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${bottom + 23}" rx="8" fill="#ffffff" stroke="#9ca3af"/>
<text x="20" y="30" font-size="17" font-weight="bold">${title}</text>
<text x="20" y="50" fill="${DIM}">Throughput, more is better. The numbers are the ratio and the throughput of ${SUBJECT}.</text>
${drawn.join('\n')}
<line x1="${x(1).toFixed(1)}" y1="${TOP - 8}" x2="${x(1).toFixed(1)}" y2="${bottom}" stroke="#b91c1c" stroke-width="1.5"/>
<text x="${x(1).toFixed(1)}" y="${bottom + 14}" text-anchor="middle" fill="#b91c1c">1.0 = ${REFERENCE}</text>
</svg>
`;
}

/** The mark of a bar that would go on. */
function cutOff(x: number, y: number, colour: string): string {
  const points = (at: number) => `${at},${y} ${at + 7},${y + BAR / 2} ${at},${y + BAR}`;
  return `<polyline points="${points(x + 4)}" fill="none" stroke="${colour}" stroke-width="2"/>`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
