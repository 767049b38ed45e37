/** `qcow2fs map`: what of a disk is stored, how, and in which layer. Needs no key. */
import type { Command } from 'commander';
import type { Disk } from '../disk.js';
import { Qcow2fsError } from '../errors.js';
import fs from '../fs.js';
import { LayerTotals, type MapSummary } from '../map/cells.js';
import { DiskMap } from '../map/disk-map.js';
import { describeLayers, Splitters } from '../map/layers.js';
import { Picture } from '../map/picture.js';
import { SvgReport } from '../map/svg.js';
import { attachDisk, type Layers, openLayers } from '../qcow2/chain.js';
import { CommandEnd, EXIT_DAMAGED } from './exit-status.js';
import { addReadOptions, namedFilesOf, type ReadFlags, readLockOf } from './image-options.js';
import { envelopeFormat, QEMU_FORMAT, RunList } from './map-json.js';
import { print, warn } from './output.js';
import { absolutePath } from './paths.js';
import { outputColumns, painter, speaksUnicode } from './style.js';
import { writeWholeFile } from './whole-file.js';

/** Runs between two looks at whether the reader keeps up. */
const RUNS_AT_ONCE = 2000;

interface MapFlags extends ReadFlags {
  json?: boolean;
  output?: string;
  svg?: string;
  snapshot?: string;
}

type Output = 'picture' | 'envelope' | 'qemu';

/** What `--output` takes. */
export const MAP_OUTPUTS = { json: 'qemu', human: 'picture' } as const;

export function addMapCommand(program: Command): void {
  const command = program
    .command('map')
    .summary('show what of a disk is stored, how, and in which layer')
    .description(
      'Shows what of the disk in IMAGE is data, compressed, shared with a snapshot, zeros or not stored at all, ' +
        'and which file of its backing chain it comes from. Needs no key and reads no data. Damaged parts of the ' +
        'mapping are shown as such; the status is 4 then.',
    )
    .argument('IMAGE', 'a qcow2 image: a file or a block device')
    .option('--json', 'as a JSON object: layers, runs and totals, in bytes')
    .option('--output <format>', 'json: the list that qemu-img map --output=json prints; or human')
    .option('--svg <file>', 'write the picture to FILE, too, for a report; replaces FILE')
    .option('--snapshot <name>', 'show the internal snapshot of this ID or name');
  addReadOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  qcow2fs map disk.qcow2                            a picture
  qcow2fs map --svg map.svg disk.qcow2              the same, and one for a report
  qcow2fs map --snapshot before-upgrade vm.qcow2    what a snapshot holds
  qcow2fs map --allow-dir ../bases overlay.qcow2    one whose backing file lies elsewhere
  qcow2fs map --output=json disk.qcow2              as qemu-img map --output=json
  qcow2fs map --json disk.qcow2 | jq .totals        bytes by layer and kind`,
    )
    .action(map);
}

async function map(image: string, flags: MapFlags): Promise<void> {
  const output = outputOf(flags);
  const svg = flags.svg === undefined ? undefined : svgFile(flags.svg);
  const layers = openLayers(absolutePath(image), {
    locked: true,
    snapshot: flags.snapshot,
    ...namedFilesOf(flags),
    readLock: readLockOf(flags),
  });
  const disk = await attachDisk(layers);
  try {
    if (svg !== undefined) refuseOwnFile(svg, layers);
    await show(disk, layers, { output, svg, snapshot: flags.snapshot });
  } finally {
    disk.close();
  }
}

/** @throws Qcow2fsError `usage` */
function outputOf({ json, output }: MapFlags): Output {
  if (json && output !== undefined) {
    throw new Qcow2fsError('usage', '--json and --output say different things: leave out one of them');
  }
  if (json) return 'envelope';
  if (output === undefined) return 'picture';
  if (Object.hasOwn(MAP_OUTPUTS, output)) return MAP_OUTPUTS[output as keyof typeof MAP_OUTPUTS];
  const known = Object.keys(MAP_OUTPUTS).join(' or ');
  throw new Qcow2fsError('usage', `--output ${output}: ${known} is needed`);
}

function svgFile(file: string): string {
  if (file === '') throw new Qcow2fsError('usage', '--svg: the name of a file is needed');
  return absolutePath(file);
}

/** A report in the place of a disk would be a loss. */
function refuseOwnFile(svg: string, layers: Layers): void {
  const stat = fs.statSync(svg, { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return;
  const files = layers.flatMap((layer) =>
    layer.kind === 'raw' || layer.dataFile === undefined ? [layer.file] : [layer.file, layer.dataFile],
  );
  if (files.some(({ device, inode }) => device === stat.dev && inode === stat.ino)) {
    throw new Qcow2fsError('usage', `--svg ${svg}: that is a file of the disk itself`);
  }
}

interface Wanted {
  readonly output: Output;
  readonly svg: string | undefined;
  readonly snapshot: string | undefined;
}

async function show(disk: Disk, layers: Layers, { output, svg, snapshot }: Wanted): Promise<void> {
  const totals = new LayerTotals(layers.length);
  const described = describeLayers(layers);
  const summary = { image: layers[0].file.path, snapshot, size: disk.size, layers: described, totals };
  const report = svg === undefined ? undefined : new SvgReport(summary);
  const picture = output === 'picture' ? pictureOf(summary) : undefined;
  const list = output === 'picture' ? undefined : listOf(output, summary);
  const splitters = new Splitters(layers);
  const disks = new DiskMap(
    disk,
    (depth) => splitters.of(depth),
    (extent) => {
      totals.add(extent);
      report?.cells.add(extent);
      picture?.cells.add(extent);
      list?.add(extent);
    },
  );
  for (let complete = false; !complete; ) {
    complete = disks.advance(RUNS_AT_ONCE);
    await list?.print();
  }
  await list?.end(totals);
  if (svg !== undefined && report !== undefined) writeWholeFile(svg, report.text());
  if (picture !== undefined) print(picture.text());
  if (disks.problemCount > 0) endDamaged(disks, layers);
}

function pictureOf(summary: MapSummary): Picture {
  const canvas = { columns: outputColumns(), paint: painter(process.stdout), unicode: speaksUnicode() };
  return new Picture(summary, canvas);
}

function listOf(output: Exclude<Output, 'picture'>, summary: MapSummary): RunList {
  return new RunList(output === 'qemu' ? QEMU_FORMAT : envelopeFormat(summary));
}

function endDamaged({ problems, problemCount }: DiskMap, layers: Layers): never {
  for (const { depth, message } of problems) {
    const { path } = layers[depth]!.file;
    warn(message.startsWith(`${path}: `) ? message : `${path}: ${message}`);
  }
  const more = problemCount - problems.length;
  if (more > 0) warn(`and ${more} more runs are damaged`);
  throw new CommandEnd(EXIT_DAMAGED);
}
