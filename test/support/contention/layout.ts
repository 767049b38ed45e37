/**
 * How contenders share a disk, so that they meet in every cluster, subcluster, sector and page:
 *
 *   rows    each one page of units that everybody writes, then stripes of an odd length, each for one contender alone:
 *           wide ones, and in the first two rows a page of narrow ones
 *   zones   units that everybody writes and erases, several clusters of them
 *   calm    where the image has compressed clusters: units that are read much and written seldom, so that such clusters
 *           are there to the end
 *
 * Every other row, and one of the two zones, is for access past the page cache of a mount; the others go through it.
 */

const PAGE = 4096;
const ROW = 9 * PAGE;
const ROWS = 8;
const NARROW_ROWS = 2;
/** Bytes, no multiples of anything: several of a sector, and more than a sector. */
const NARROW = 61;
const WIDE = 3001;
/** Of each zone. */
const ZONE_CLUSTERS = 6;
const MIN_ZONE = 32 * 1024;
/** The disk ends within a cluster. */
const TAIL = 3 * 512;

export interface Layout {
  readonly clusterSize: number;
  /** Bytes of what one write leaves whole: a block, or a sector where clusters or subclusters are that small. */
  readonly unit: number;
  readonly encrypted: boolean;
  /** Bytes of the calm part. */
  readonly calm: number;
}

export interface Range {
  readonly offset: number;
  readonly length: number;
}

function zoneBytes({ clusterSize }: Layout): number {
  return Math.max(MIN_ZONE, ZONE_CLUSTERS * clusterSize);
}

function calmStart(layout: Layout): number {
  return ROWS * ROW + 2 * zoneBytes(layout);
}

export function diskSize(layout: Layout): number {
  return calmStart(layout) + layout.calm + TAIL;
}

function stripesOf(length: number, rows: number, from: number, to: number): Range[] {
  const perRow = Math.floor((to - from) / length);
  return Array.from({ length: rows * perRow }, (_, index) => {
    return { offset: Math.floor(index / perRow) * ROW + from + (index % perRow) * length, length };
  });
}

const narrow = stripesOf(NARROW, NARROW_ROWS, PAGE, 2 * PAGE);
const wide = stripesOf(WIDE, ROWS, 2 * PAGE, ROW);

/** A contender's own stripes: the narrow ones, and the wide ones. */
export function stripesFor(contender: number, contenders: number): readonly [Range[], Range[]] {
  const isOwn = (_: Range, index: number): boolean => index % contenders === contender;
  return [narrow.filter(isOwn), wide.filter(isOwn)];
}

/** What everybody writes: the two zones, and the first page of each row. */
export function sharedRanges(layout: Layout): Range[] {
  const length = zoneBytes(layout);
  const zones = [0, 1].map((zone) => ({ offset: ROWS * ROW + zone * length, length }));
  const pages = Array.from({ length: ROWS }, (_, row) => ({ offset: row * ROW, length: PAGE }));
  return [...zones, ...pages];
}

export function calmRange(layout: Layout): Range {
  return { offset: calmStart(layout), length: layout.calm };
}

/** Whether a mount's page cache is passed by there. */
export function isDirect(layout: Layout, offset: number): boolean {
  if (offset < ROWS * ROW) return Math.floor(offset / ROW) % 2 === 0;
  return offset < ROWS * ROW + zoneBytes(layout) || offset >= calmStart(layout);
}
