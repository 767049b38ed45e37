/** Building blocks for test images: thin functions over qemu-img and qemu-io 7.2. */

import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { withCpuClock } from './cpu-clock.js';
import { type PatternKind, patternBytes } from './pattern.js';
import { type RunOptions, run } from './run.js';
import { spawnProgram } from './spawn.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

export interface Secret {
  /** Absolute path of the file that holds the key. */
  readonly file: string;
  readonly format: 'raw' | 'base64';
}

/** A qcow2 file and what the tools must be told to open it. */
export interface Image {
  readonly dir: string;
  /** Relative to `dir`, where every tool runs: QEMU resolves an external data file against its working directory. */
  readonly name: string;
  readonly secret?: Secret;
  /** Options for --image-opts beyond driver and file name, e.g. `backing.encrypt.key-secret=key`. */
  readonly openOptions: readonly string[];
}

export interface Backing {
  /** As it is to stand in the header. */
  readonly file: string;
  readonly format: 'raw' | 'qcow2';
  /** The base needs the key. */
  readonly encrypted?: boolean;
}

export interface ImageSpec {
  readonly name?: string;
  readonly size?: number;
  readonly version?: 2 | 3;
  readonly clusterSize?: number;
  /** More `-o` options, as qemu-img spells them. */
  readonly options?: readonly string[];
  readonly backing?: Backing;
  readonly secret?: Secret;
  /** For an encrypted image: `encrypt.*` options without the key. */
  readonly encryption?: readonly string[];
}

export const DEFAULT_CLUSTER_SIZE = 64 * KiB;

/** The unit of the guest scripts: no smaller than 64 KiB, so that small clusters come in numbers. */
export function scriptUnit(clusterSize: number): number {
  return Math.max(clusterSize, 64 * KiB);
}

/** A size that has room for the guest scripts: 24 units, and at least 2 MiB. */
export function defaultSize(clusterSize: number): number {
  return Math.max(2 * MiB, 24 * scriptUnit(clusterSize));
}

export function writeSecret(
  dir: string,
  bytes: string,
  name = 'secret',
  format: Secret['format'] = 'raw',
): Secret {
  const file = join(dir, name);
  writeFileSync(file, bytes, { mode: 0o600 });
  return { file, format };
}

export function secretObject(secret: Secret, id = 'key'): string[] {
  return ['--object', `secret,id=${id},format=${secret.format},file=${secret.file}`];
}

export function createImage(dir: string, spec: ImageSpec = {}): Image {
  const name = spec.name ?? 'image.qcow2';
  const size = spec.size ?? defaultSize(spec.clusterSize ?? DEFAULT_CLUSTER_SIZE);
  const encryption = spec.encryption ?? [];
  if (encryption.length > 0 && spec.secret === undefined) throw new Error(`${name}: encrypted without a key`);
  const options = [
    ...(spec.version === 2 ? ['compat=0.10'] : ['compat=1.1']),
    ...(spec.clusterSize === undefined ? [] : [`cluster_size=${spec.clusterSize}`]),
    ...(spec.options ?? []),
    ...(encryption.length > 0 ? [...encryption, 'encrypt.key-secret=key'] : []),
  ];
  const backing = spec.backing;
  // -u: the backing file is not opened, for it might need a key that `create` cannot be given.
  const backingArgs = backing === undefined ? [] : ['-u', '-b', backing.file, '-F', backing.format];
  const secretArgs = spec.secret === undefined ? [] : secretObject(spec.secret);
  mkdirSync(dirname(join(dir, name)), { recursive: true });
  qemuImg(dir, [
    ...['create', '-q', '-f', 'qcow2', ...secretArgs, ...backingArgs],
    ...['-o', options.join(','), name, String(size)],
  ]);
  return {
    dir,
    name,
    ...(spec.secret === undefined ? {} : { secret: spec.secret }),
    openOptions: [
      ...(encryption.length > 0 ? ['encrypt.key-secret=key'] : []),
      ...(backing?.encrypted === true ? ['backing.encrypt.key-secret=key'] : []),
    ],
  };
}

export interface Extent {
  readonly offset: number;
  readonly length: number;
}

/** A raw file of any size, holes outside the extents. */
export function createRaw(
  dir: string,
  name: string,
  size: number,
  seed: number,
  extents?: readonly Extent[],
): string {
  const path = join(dir, name);
  mkdirSync(dirname(path), { recursive: true });
  const bytes = Buffer.alloc(size);
  for (const { offset, length } of extents ?? [{ offset: 0, length: size }]) {
    patternBytes(seed, offset, Math.min(length, size - offset)).copy(bytes, offset);
  }
  writeFileSync(path, bytes);
  return path;
}

export function imagePath(image: Image): string {
  return join(image.dir, image.name);
}

/** What to put behind a qemu-img or qemu-io subcommand to open the image. */
export function openArgs(image: Image): string[] {
  if (image.openOptions.length === 0) return ['-f', 'qcow2', image.name];
  const file = image.name.replaceAll(',', ',,');
  const options = ['driver=qcow2', `file.filename=${file}`, ...image.openOptions];
  return ['--image-opts', options.join(',')];
}

/** `--object` for the key, needed before the other arguments; empty for plain images. */
export function keyArgs(image: Image): string[] {
  return image.secret === undefined ? [] : secretObject(image.secret);
}

/** One step of a guest: data written plainly or compressed, explicit zeros, a discard. */
export type Step =
  | { readonly do: 'data'; readonly offset: number; readonly length: number; readonly kind?: PatternKind }
  | {
      readonly do: 'compressed';
      readonly offset: number;
      readonly length: number;
      readonly kind?: PatternKind;
    }
  /** Reads as zeros; the clusters stay allocated. */
  | { readonly do: 'zero'; readonly offset: number; readonly length: number }
  /** Reads as zeros; the clusters are given back. */
  | { readonly do: 'zero-unmap'; readonly offset: number; readonly length: number }
  | { readonly do: 'discard'; readonly offset: number; readonly length: number };

/** Runs the steps in the image, data coming from the pattern with this seed. */
export function writeSteps(image: Image, seed: number, steps: readonly Step[]): void {
  const sources: string[] = [];
  const sessions: string[][] = [];
  for (const [index, step] of steps.entries()) {
    const source = `step-${index}.data`;
    if (step.do === 'data' || step.do === 'compressed') {
      writeFileSync(join(image.dir, source), patternBytes(seed, step.offset, step.length, step.kind));
      sources.push(source);
    }
    // QEMU 7.2 packs compressed clusters into a host cluster that it meanwhile freed and gave to other data:
    // a compressed write after anything else corrupts the image unless the image was closed in between.
    const before = steps[index - 1];
    if (before === undefined || (step.do === 'compressed' && before.do !== 'compressed')) sessions.push([]);
    sessions.at(-1)!.push(stepCommand(step, source));
  }
  for (const commands of sessions) qemuIo(image, commands);
  for (const source of sources) rmSync(join(image.dir, source));
}

function stepCommand(step: Step, source: string): string {
  const range = `${step.offset} ${step.length}`;
  switch (step.do) {
    case 'data':
      return `write -s ${source} ${range}`;
    case 'compressed':
      return `write -c -s ${source} ${range}`;
    case 'zero':
      return `write -z ${range}`;
    case 'zero-unmap':
      return `write -z -u ${range}`;
    case 'discard':
      return `discard ${range}`;
  }
}

export function qemuIo(image: Image, commands: readonly string[]): void {
  const args = [
    '-t',
    'unsafe',
    '-d',
    'unmap',
    ...keyArgs(image),
    ...openArgs(image),
    ...commands.flatMap((c) => ['-c', c]),
  ];
  // qemu-io reports a failed command on stdout or stderr, yet not always in its status.
  const output = run('qemu-io', args, { cwd: image.dir });
  const failure = output.split('\n').find((line) => /failed|error|invalid|not support/i.test(line));
  if (failure !== undefined) throw new Error(`qemu-io in ${imagePath(image)}: ${failure}`);
}

/** Writes the steps and dies without closing the image, as a crash of the guest's host would. */
export function writeAndCrash(image: Image, seed: number, step: Step): void {
  const source = join(image.dir, 'step.data');
  writeFileSync(source, patternBytes(seed, step.offset, step.length));
  const write = `write -s step.data ${step.offset} ${step.length}`;
  const args = [...keyArgs(image), ...openArgs(image), '-c', write, '-c', 'flush', '-c', 'abort'];
  // The shell in between keeps core dumps away.
  const script = 'ulimit -c 0; exec qemu-io "$@"';
  run('sh', ['-c', script, 'sh', ...args], { cwd: image.dir, expectSignal: 'SIGABRT' });
  rmSync(source);
}

/** The oracle: what `qemu-img convert` reads through the image. Returns the absolute path. */
export function convertToRaw(
  image: Image,
  name = 'expected.raw',
  convertOptions: readonly string[] = [],
): string {
  qemuImg(image.dir, [
    'convert',
    ...keyArgs(image),
    ...convertOptions,
    '-O',
    'raw',
    ...openArgs(image),
    name,
  ]);
  return join(image.dir, name);
}

export interface TakenSnapshot {
  readonly name: string;
  readonly id: string;
  readonly size: number;
  /** The disk converted at the moment of the snapshot. */
  readonly expected: string;
}

/** Takes internal snapshot number `id` (QEMU counts from 1) and keeps what the disk holds at this moment. */
export function takeSnapshot(image: Image, name: string, id: string): TakenSnapshot {
  const expected = convertToRaw(image, `expected-${id}.raw`);
  qemuImg(image.dir, ['snapshot', ...keyArgs(image), '-q', '-c', name, ...openTail(image)]);
  return { name, id, size: statSync(expected).size, expected };
}

/** `qemu-img snapshot` knows no -f. */
function openTail(image: Image): string[] {
  return image.openOptions.length === 0 ? [image.name] : openArgs(image);
}

/**
 * Asserts that `convert -l` agrees with the copy kept when the snapshot was taken, as far as both reach:
 * QEMU shows a snapshot with the image's current size.
 */
export function checkSnapshot(image: Image, taken: TakenSnapshot): void {
  const shown = convertToRaw(image, 'shown.raw', [
    '-l',
    `snapshot.id=${taken.id},snapshot.name=${taken.name}`,
  ]);
  const common = Math.min(taken.size, statSync(shown).size);
  run('cmp', ['-n', String(common), shown, taken.expected]);
  rmSync(shown);
}

export function resize(image: Image, size: number): void {
  const args = ['resize', ...keyArgs(image), '-q', '--shrink', ...openArgs(image), String(size)];
  qemuImg(image.dir, args);
}

/** Changes key slots: `encrypt.*` options, without the prefix. `added` is the key for `new-secret=added`. */
export function amendKeySlots(image: Image, options: readonly string[], added?: Secret): void {
  const objects = [...keyArgs(image), ...(added === undefined ? [] : secretObject(added, 'added'))];
  const amendments = options.map((option) => `encrypt.${option}`).join(',');
  qemuImg(image.dir, ['amend', ...objects, '--force', '-q', ...openArgs(image), '-o', amendments]);
}

/** @param granularity guest bytes per bit; QEMU's choice if omitted */
export function addBitmap(image: Image, name: string, granularity?: number): void {
  const options = granularity === undefined ? [] : ['--granularity', String(granularity)];
  qemuImg(image.dir, ['bitmap', '--add', ...options, ...openArgs(image), name]);
}

/** `qemu-img check`; throws when it finds anything. */
export function checkImage(image: Image): void {
  qemuImg(image.dir, ['check', ...keyArgs(image), '-q', ...openArgs(image)]);
}

export function qemuImg(dir: string, args: readonly string[], options: RunOptions = {}): string {
  return run('qemu-img', args, { cwd: dir, env: withCpuClock(), ...options });
}

/** `qemu-img check` finds no error in a disk whose writer was killed; leaks are no errors. */
export function expectNoCorruption(image: Image): void {
  const args = ['check', '-q', ...keyArgs(image), ...openArgs(image)];
  const result = spawnProgram('qemu-img', args, { cwd: image.dir });
  if (result.status !== 0 && result.status !== 3) {
    throw new Error(`qemu-img check: status ${result.status}: ${result.stdout}${result.stderr}`);
  }
}

/** Takes away what a killed writer leaked; nothing may be wrong then. */
export function removeLeaks(image: Image): void {
  const args = ['check', '-q', '-r', 'leaks', ...keyArgs(image), ...openArgs(image)];
  qemuImg(image.dir, args);
  checkImage(image);
}
