/**
 * One damaged image: looked at, read, and written as a mount would, while everything is watched that must hold whatever
 * the image says.
 */
import fs from 'node:fs';
import { join } from 'node:path';
import type { Disk, Extent } from '../../src/disk.js';
import { FileStorage, type OpenFile } from '../../src/host/file-storage.js';
import { attachDisk, type OpenOptions, openLayers } from '../../src/qcow2/chain.js';
import { type ImageInfo, readInfo } from '../../src/qcow2/info.js';
import { attempt, Finding, judgeFailure, refuseCanary } from './finding.js';
import { applyEdits, type Content, type ImageInput, writeContent } from './input.js';
import { IMAGE, type Seed } from './seeds.js';
import { checkOnly, repair } from './target-check.js';

/** CPU seconds. Keys are the slowest: eight slots, and two secrets for each when there is a NUL in one. */
const MAX_OPEN_SECONDS = 6;
const MAX_STEP_SECONDS = 4;
const READ_BYTES = 128 * 1024;
const MAX_READS = 32;
const SCAN_STEPS = 2000;
const WRITE_BYTES = 70_000;
/** What a few writes may cost in tables and refcount blocks, with clusters of 2 MiB. */
const MAX_GROWTH = 96 * 1024 * 1024;

/** Stable storage is nothing that is tested here, and it is slow. */
export class UnsyncedStorage extends FileStorage {
  override sync(): void {}
}
export const unsynced = (file: OpenFile): FileStorage => new UnsyncedStorage(file);

/** The files of the seed, one of them damaged. */
export function writeDamaged({ file, edits }: ImageInput, seed: Seed): Content {
  const content = applyEdits(seed.contents[file]!, edits);
  for (const [name, bytes] of Object.entries(seed.contents)) {
    writeContent(join(seed.dir, name), name === file ? content : { bytes, size: bytes.length });
  }
  return content;
}

/** @throws Finding */
export async function runImage(input: ImageInput, seed: Seed): Promise<void> {
  const content = writeDamaged(input, seed);
  const image = join(seed.dir, IMAGE);
  const { secret } = seed;
  const descriptors = openDescriptors();
  const companions = new Companions(seed);
  try {
    const unchanged = new Unchanged(join(seed.dir, input.file), content);
    const info = await attempt('info', MAX_STEP_SECONDS, () => look(image));
    await readDisk(image, { secret }, seed);
    const snapshot = info?.snapshots[0]?.id;
    if (snapshot !== undefined) await readDisk(image, { secret, snapshot }, seed);
    unchanged.check('reading');
    await checkOnly(image);
    unchanged.check('checking');
    companions.check('reading', new Set());
    const written = await writeDisk(image, input, seed);
    companions.check('writing', written);
    if (input.session === 'overlay') await repair(image);
    const count = openDescriptors().length - descriptors.length;
    if (count !== 0) throw new Finding('leak', 'closing', `${count} descriptors stay open`);
  } catch (error) {
    // A finding leaves disks open, and their locks would be met by the next input.
    for (const fd of openDescriptors()) if (!descriptors.includes(fd)) fs.closeSync(Number(fd));
    throw error;
  } finally {
    fs.rmSync(join(seed.dir, 'overlay'), { force: true });
    companions.restore();
  }
}

function look(image: string): ImageInfo {
  const info = readInfo(image);
  refuseCanary(Buffer.from(JSON.stringify(info)), 'info');
  return info;
}

async function readDisk(image: string, options: OpenOptions, seed: Seed): Promise<void> {
  const step = options.snapshot === undefined ? 'reading' : 'reading a snapshot';
  const disk = await open(image, options, seed, step);
  if (disk === undefined) return;
  const extents: Extent[] = [];
  const keep = (extent: Extent): boolean => extents.push(extent) < 4 * SCAN_STEPS;
  await attempt(`${step}: scan`, MAX_STEP_SECONDS, () =>
    disk.scan(0, disk.size, keep, { steps: SCAN_STEPS }),
  );
  checkExtents(extents, disk, step);
  const places = [0, disk.size / 2, disk.size - READ_BYTES, disk.size - 512];
  for (const { offset, data } of extents) if (data && places.length < MAX_READS) places.push(offset);
  const target = Buffer.alloc(READ_BYTES);
  for (const place of places) {
    const offset = Math.max(0, Math.floor(place));
    const length = Math.min(READ_BYTES, disk.size - offset);
    await attempt(`${step}: read`, MAX_STEP_SECONDS, () => disk.read(target, 0, length, offset));
    refuseCanary(target, step);
    if (disk.canReadAhead) await attempt(`${step}: ahead`, MAX_STEP_SECONDS, () => disk.readAhead());
  }
  await attempt(`${step}: close`, MAX_STEP_SECONDS, () => disk.close());
}

/** Together they cover the disk from its start, without gaps. */
function checkExtents(extents: readonly Extent[], disk: Disk, step: string): void {
  let at = 0;
  for (const { offset, length } of extents) {
    if (offset !== at || !(length > 0))
      throw new Finding('content', step, 'the extents have gaps or overlap');
    at += length;
  }
  if (at > disk.size) throw new Finding('content', step, 'the extents reach beyond the disk');
}

/** @param dataFiles gets the paths of the data files */
async function open(
  image: string,
  options: OpenOptions,
  seed: Seed,
  step: string,
  dataFiles = new Set<string>(),
): Promise<Disk | undefined> {
  return attempt(`${step}: open`, MAX_OPEN_SECONDS, async () => {
    const layers = openLayers(image, options, unsynced);
    for (const layer of layers) {
      const dataFile = layer.kind === 'qcow2' ? layer.dataFile : undefined;
      if (dataFile !== undefined) dataFiles.add(fs.realpathSync(dataFile.path));
      for (const file of [layer.file, dataFile]) {
        if (file === undefined) continue;
        const real = fs.readlinkSync(`/proc/self/fd/${file.fd}`);
        if (!real.startsWith(`${seed.dir}/`)) throw new Finding('outside', step, `${real} was opened`);
      }
    }
    return attachDisk(layers, unsynced);
  });
}

/** @returns the files that the image may write its data to */
async function writeDisk(image: string, { session }: ImageInput, seed: Seed): Promise<ReadonlySet<string>> {
  const before = fs.statSync(image).blocks;
  const options: OpenOptions = {
    secret: seed.secret,
    writable: true,
    resizable: session === 'resizable',
    ...(session === 'overlay' ? { overlay: join(seed.dir, 'overlay') } : {}),
  };
  const dataFiles = new Set<string>();
  const disk = await open(image, options, seed, 'writing', dataFiles);
  if (disk === undefined) return dataFiles;
  const data = Buffer.alloc(WRITE_BYTES, 0x77);
  const { size } = disk;
  const middle = Math.floor(size / 2);
  const steps: readonly (readonly [string, number, number, (offset: number, length: number) => void])[] = [
    ['write', 0, 4096, (offset, length) => disk.write(data, 0, length, offset)],
    ['write', middle - 333, WRITE_BYTES, (offset, length) => disk.write(data, 0, length, offset)],
    ['zero', 1024 * 1024, 70_000, (offset, length) => disk.zero(offset, length)],
    ['discard', 300 * 1024, 200_000, (offset, length) => disk.discard(offset, length)],
    ['write', 310 * 1024, 5000, (offset, length) => disk.write(data, 0, length, offset)],
    ['flush', 0, 0, () => disk.flush()],
    ['write', size - 512, 512, (offset, length) => disk.write(data, 0, length, offset)],
    ['discard', 0, 1024 * 1024, (offset, length) => disk.discard(offset, length)],
    ['read', 0, WRITE_BYTES, (offset, length) => disk.read(data, 0, length, offset)],
    ['resize', 0, 0, () => (session === 'resizable' ? disk.resize(size + 1024 * 1024) : undefined)],
  ];
  for (const [name, at, wanted, act] of steps) {
    const offset = Math.max(0, Math.min(at, size));
    await attempt(`writing: ${name}`, MAX_STEP_SECONDS, () => act(offset, Math.min(wanted, size - offset)));
  }
  try {
    disk.close();
  } catch (error) {
    judgeFailure(error, 'writing: close');
  }
  const growth = (fs.statSync(image).blocks - before) * 512;
  if (growth > MAX_GROWTH) throw new Finding('growth', 'writing', `the image takes ${growth} bytes more`);
  return session === 'overlay' ? new Set() : dataFiles;
}

/** Without the one that this needs itself. */
function openDescriptors(): readonly string[] {
  return fs.readdirSync('/proc/self/fd').filter((fd) => fs.existsSync(`/proc/self/fd/${fd}`));
}

/** A file that must stay as it is while it is read. */
class Unchanged {
  readonly #path: string;
  readonly #content: Content;
  readonly #modified: bigint;

  constructor(path: string, content: Content) {
    this.#path = path;
    this.#content = content;
    this.#modified = fs.statSync(path, { bigint: true }).mtimeNs;
  }

  check(step: string): void {
    const { mtimeNs, size } = fs.statSync(this.#path, { bigint: true });
    const { bytes } = this.#content;
    const fd = fs.openSync(this.#path, 'r');
    const now = Buffer.alloc(bytes.length);
    fs.readSync(fd, now, 0, now.length, 0);
    fs.closeSync(fd);
    const same = mtimeNs === this.#modified && Number(size) === this.#content.size && now.equals(bytes);
    if (!same) throw new Finding('changed', step, `${this.#path} is another`);
  }
}

/** What the image names, by its times: only a data file that is written may change. */
class Companions {
  readonly #seed: Seed;
  readonly #modified: Map<string, bigint>;

  constructor(seed: Seed) {
    this.#seed = seed;
    this.#modified = new Map(Object.keys(seed.companions).map((name) => [name, this.#time(name)]));
  }

  check(step: string, written: ReadonlySet<string>): void {
    for (const [name, before] of this.#modified) {
      if (this.#time(name) === before || written.has(join(this.#seed.dir, name))) continue;
      throw new Finding('changed', step, `${name} is another`);
    }
  }

  restore(): void {
    const { dir, companions } = this.#seed;
    for (const [name, before] of this.#modified) {
      if (this.#time(name) !== before) fs.writeFileSync(join(dir, name), companions[name]!);
    }
  }

  #time(name: string): bigint {
    return fs.statSync(join(this.#seed.dir, name), { bigint: true }).mtimeNs;
  }
}
