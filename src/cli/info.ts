/** `qcow2fs info`: what an image is. Needs no key and opens no file that the image names. */
import type { Command } from 'commander';
import { printable, shortName } from '../printable.js';
import type { ImageInfo } from '../qcow2/info.js';
import { humanBytes, print, printJson, table } from './output.js';
import { absolutePath } from './paths.js';

export function addInfoCommand(program: Command): void {
  program
    .command('info')
    .summary('show what an image is')
    .description(
      'Shows the header, features, encryption, snapshots, bitmaps, named files and allocation of IMAGE. ' +
        'Needs no key and opens no file that the image names.',
    )
    .argument('IMAGE', 'a qcow2 image: a file or a block device')
    .option('--json', 'as a JSON object')
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs info disk.qcow2                            what is it, and what does it need?
  qcow2fs info --json disk.qcow2 | jq .encryption    how is it encrypted?`,
    )
    .action(info);
}

async function info(image: string, { json }: { json?: boolean }): Promise<void> {
  const { readInfo } = await import('../qcow2/info.js');
  const found = readInfo(absolutePath(image));
  if (json) await printJson('info', found);
  else print(describe(found));
}

function describe(info: ImageInfo): string {
  const bytes = (value: number): string => `${humanBytes(value)} (${value} bytes)`;
  const rows: [string, string][] = [
    ['image', printable(info.image)],
    ['format', `qcow2 version ${info.version}`],
    ['disk size', bytes(info.virtualSize)],
    ['file size', `${humanBytes(info.fileSize)}, ${humanBytes(info.diskUsage)} on disk`],
    ['cluster size', humanBytes(info.clusterSize)],
    ['compression', info.compressionType],
    ['refcount width', `${info.refcountBits} bits`],
  ];
  for (const [kind, names] of Object.entries(info.features)) {
    if (names.length > 0) rows.push([`${kind} features`, names.map(printable).join(', ')]);
  }
  if (info.backingFile !== null) {
    const format = info.backingFormat === null ? 'format not declared' : nameOf(info.backingFormat);
    rows.push(['backing file', `${printable(info.backingFile)} (${format})`]);
  }
  if (info.dataFile !== null) rows.push(['data file', printable(info.dataFile)]);
  if (info.allocation !== null) rows.push(['allocation', describeAllocation(info.allocation)]);
  return [
    table(rows.map(([label, value]) => [`${label}:`, value])),
    ...describeEncryption(info.encryption),
    ...describeSnapshots(info.snapshots),
    ...describeBitmaps(info.bitmaps),
  ].join('\n');
}

function nameOf(name: string): string {
  return printable(shortName(name));
}

function describeAllocation(allocation: NonNullable<ImageInfo['allocation']>): string {
  return Object.entries(allocation)
    .filter(([, bytes]) => bytes > 0)
    .map(([kind, bytes]) => `${humanBytes(bytes)} ${kind}`)
    .join(', ');
}

function describeEncryption(encryption: ImageInfo['encryption']): string[] {
  if (encryption === null) return [];
  const { luks } = encryption;
  if (luks === null) return ['encryption: legacy AES, aes-128-cbc-plain64, no key derivation'];
  const rows = luks.keySlots
    .filter(({ active }) => active)
    .map(({ slot, iterations, stripes }) => [`  ${slot}`, String(iterations), String(stripes)]);
  return [
    `encryption: LUKS version ${luks.version}, ${printable(luks.cipher)} with a ${luks.keyBits}-bit key, UUID ${printable(luks.uuid)}`,
    `  mode ${printable(luks.mode)}, IV ${printable(luks.ivGenerator ?? 'none')}, hash ${printable(luks.hash)}, ` +
      `${luks.digestIterations} iterations for the digest`,
    ...(rows.length === 0
      ? ['  no active key slot']
      : [table([['  key slot', 'iterations', 'stripes'], ...rows])]),
  ];
}

function describeSnapshots(snapshots: ImageInfo['snapshots']): string[] {
  if (snapshots.length === 0) return [];
  const rows = snapshots.map(({ id, name, date, diskSize, vmStateSize }) => [
    `  ${nameOf(id)}`,
    nameOf(name),
    date,
    humanBytes(diskSize),
    humanBytes(vmStateSize),
  ]);
  return ['snapshots:', table([['  ID', 'name', 'date', 'disk size', 'VM state'], ...rows])];
}

function describeBitmaps(bitmaps: ImageInfo['bitmaps']): string[] {
  if (bitmaps.length === 0) return [];
  const rows = bitmaps.map(({ name, granularity, inUse, auto }) => [
    `  ${nameOf(name)}`,
    humanBytes(granularity),
    [auto ? 'auto' : '', inUse ? 'in use (not trustworthy)' : ''].filter(Boolean).join(', ') || '-',
  ]);
  return ['bitmaps:', table([['  name', 'granularity', 'flags'], ...rows])];
}
