/** What `check` tells people: findings of a kind together, the first ones of each, and what to do. */
import { printable, shellWord } from '../printable.js';
import type { CheckReport, Found } from '../qcow2/check/check-file.js';
import { FINDING_KINDS, type Finding, type FindingKind, type Severity } from '../qcow2/check/finding.js';
import { hex } from '../qcow2/format/units.js';
import { humanBytes } from './output.js';
import type { Colour, Paint } from './style.js';

/** Findings of a kind that are shown. */
const MAX_SHOWN = 10;
/** The worst first. */
const COLOURS: Readonly<Record<Severity, Colour>> = {
  corruption: 'red',
  missing: 'red',
  leak: 'yellow',
  warning: 'cyan',
};

/** @param name the image as the user calls it */
export function describeCheck(report: CheckReport, name: string, paint: Paint): string {
  const { checked } = report;
  return [
    ...describeFindings(report, name, paint),
    ...describeRepair(report, paint),
    ...checked.map((one) => (checked.length === 1 ? '' : `${printable(one.image)}: `) + describeImage(one)),
    `${printable(name)}: ${verdict(report, paint)}`,
  ].join('\n');
}

function describeFindings(report: CheckReport, name: string, paint: Paint): string[] {
  const files = [...new Set(report.findings.map(({ image }) => image))];
  return files.flatMap((file) => {
    const own = report.findings.filter(({ image }) => image === file);
    const isFirst = file === report.image;
    const heading = isFirst ? [] : [`${printable(file)}, on which it stands:`, ''];
    return [
      ...heading,
      ...describeFile(own, files.length === 1 ? report : undefined, isFirst ? name : file, paint),
    ];
  });
}

/**
 * @param all knows how many findings there are, also of those that are only counted
 * @param name the file as the user calls it
 */
function describeFile(
  findings: readonly Finding[],
  all: Found | undefined,
  name: string,
  paint: Paint,
): string[] {
  const severities = Object.keys(COLOURS) as Severity[];
  const kinds = (Object.keys(FINDING_KINDS) as FindingKind[])
    .filter((kind) => findings.some((one) => one.kind === kind))
    .map((kind) => ({ kind, rank: severities.indexOf(FINDING_KINDS[kind].severity) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ kind }) => kind);
  return kinds.flatMap((kind) => {
    const alike = findings.filter((one) => one.kind === kind);
    const { meaning } = FINDING_KINDS[kind];
    const { severity, remedy, advice } = alike[0]!;
    const count = all?.kinds[kind] ?? sumOf(alike);
    const more = alike.length - MAX_SHOWN;
    const mend =
      remedy === 'none' ? advice : `to mend it: qcow2fs check --repair ${remedy} ${shellWord(name)}`;
    return [
      `${paint(COLOURS[severity], severity)}: ${meaning}${count > 1 ? ` (${count})` : ''} ${paint('dim', `[${kind}]`)}`,
      ...alike.slice(0, MAX_SHOWN).map((one) => `  ${placeOf(one)}${printable(one.what)}`),
      ...(more > 0 ? [`  and more; --json lists ${alike.length} of them`] : []),
      ...(mend === null ? [] : [`  ${paint('dim', mend)}`]),
      '',
    ];
  });
}

function placeOf({ kind, structure, offset, entry, guestOffset }: Finding): string {
  // Their text tells the place.
  if (structure === 'refcounts' || kind === 'chain') return '';
  const index = entry === null ? '' : `, entry ${entry}`;
  const guest = guestOffset === null ? '' : ` (disk offset ${hex(guestOffset)})`;
  return `${printable(structure)} at ${hex(offset)}${index}${guest}: `;
}

function describeRepair({ repair, totals, findings }: CheckReport, paint: Paint): string[] {
  if (repair === null) return [];
  if (repair.refusal !== null) return [`${paint('red', 'not repaired')}: ${repair.refusal}`];
  const { corruption, leak } = repair.before.totals;
  const wasMarked = isMarked(repair.before.findings) && !isMarked(findings);
  const mended = [
    counted(corruption - totals.corruption, 'corruption'),
    counted(leak - totals.leak, 'leaked cluster'),
    wasMarked ? 'the image is marked sound' : '',
  ].filter((part) => part !== '');
  return [mended.length === 0 ? 'nothing to repair' : `${paint('green', 'repaired')}: ${mended.join(', ')}`];
}

function isMarked(findings: readonly Finding[]): boolean {
  return findings.some(({ kind }) => kind === 'dirty' || kind === 'marked-corrupt');
}

function counted(count: number, what: string): string {
  if (count <= 0) return '';
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function describeImage({ clusters, end, snapshots }: CheckReport['checked'][number]): string {
  const { allocated, total, compressed, fragmented } = clusters;
  const percent = (part: number, whole: number): string =>
    whole === 0 ? '0 %' : `${Math.min(100, Math.round((100 * part) / whole))} %`;
  const parts = [
    `${allocated} of ${total} clusters allocated (${percent(allocated, total)})`,
    `${compressed} compressed`,
    `${percent(fragmented, allocated)} fragmented`,
    ...(snapshots === 0 ? [] : [counted(snapshots, 'snapshot')]),
    `in use up to ${humanBytes(end)}`,
  ];
  return parts.join(', ');
}

function verdict({ totals }: CheckReport, paint: Paint): string {
  const parts = [
    counted(totals.corruption, 'corruption'),
    counted(totals.leak, 'leaked cluster'),
    counted(totals.warning, 'warning'),
  ].filter((part) => part !== '');
  if (totals.missing > 0) parts.push('the disk cannot be read without what is missing');
  if (totals.corruption > 0 || totals.missing > 0) return paint('red', parts.join(', '));
  return parts.length === 0 ? paint('green', 'sound') : `sound, but ${parts.join(', ')}`;
}

function sumOf(findings: readonly Finding[]): number {
  return findings.reduce((sum, { count }) => sum + count, 0);
}
