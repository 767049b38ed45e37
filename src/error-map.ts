/**
 * Which parts of a disk can be read, in the format of GNU ddrescue's mapfiles, so that its tools go on from there (ddrescue
 * manual, "Mapfile structure"): a line of status, then ranges that cover the disk in order.
 */
import type { DamagedRange } from './damaged-ranges.js';

/** The marks of a mapfile: rescued; bad sectors; failed, and not every sector was tried; not tried. */
const READ = '+';
const BAD = '-';
const COARSE = '/';
const UNTRIED = '?';

export interface ErrorMap {
  /** Bytes of the disk. */
  readonly size: number;
  readonly damaged: Iterable<DamagedRange>;
  /** Everything before was tried, and could be read unless it is damaged: bytes. */
  readonly tried: number;
  /** The first line, after the mark of the format. */
  readonly title: string;
}

/** What every mapfile of ddrescue begins with. */
export const MAPFILE_MARKS = ['# Mapfile.', '# Rescue Logfile.'] as const;

export function formatErrorMap({ size, damaged, tried, title }: ErrorMap): string {
  const lines = [
    `${MAPFILE_MARKS[0]} ${title}`,
    '# current_pos  current_status  current_pass',
    `${hex(tried)}     ${tried === size ? READ : UNTRIED}               1`,
    '#      pos        size  status',
  ];
  for (const { offset, length, mark } of ranges(size, damaged, tried)) {
    lines.push(`${hex(offset)}  ${hex(length)}  ${mark}`);
  }
  return `${lines.join('\n')}\n`;
}

interface MarkedRange {
  readonly offset: number;
  readonly length: number;
  readonly mark: string;
}

function* ranges(size: number, damaged: Iterable<DamagedRange>, tried: number): Generator<MarkedRange> {
  let at = 0;
  for (const { offset, length, coarse } of damaged) {
    yield* sound(at, offset, tried);
    yield { offset, length, mark: coarse ? COARSE : BAD };
    at = offset + length;
  }
  yield* sound(at, size, tried);
}

function* sound(start: number, end: number, tried: number): Generator<MarkedRange> {
  const middle = Math.min(Math.max(start, tried), end);
  if (start < middle) yield { offset: start, length: middle - start, mark: READ };
  if (middle < end) yield { offset: middle, length: end - middle, mark: UNTRIED };
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(8, '0')}`;
}
