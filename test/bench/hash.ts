/**
 * How fast `qcow2fs hash` is, beside the two other ways to the same digest: `qemu-img convert` and sha256sum, and
 * sha256sum of the mounted disk. In each round every way is taken in turn, and each round begins with another one.
 *
 *     node dist/test/bench/hash.js [--size MIB] [--sparse GIB] [--rounds N] [--only LIST] [--dir DIR]
 *
 * qemu-img 7.2 writes to no pipe ("'file' driver requires '/dev/stdout' to be a regular file"), so it converts to a
 * file in memory, below /dev/shm, which sha256sum reads.
 */

import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { warmFile } from './content.js';
import { type Image, ImageStore, warm } from './images.js';
import { KINDS, PLAIN } from './kinds.js';
import { makeSpread } from './layers.js';
import { atExit, interrupt, run, undoAll } from './process.js';
import { setting } from './setting.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const CLUSTER = 64 * 1024;
/** What the sparse disk holds. */
const SPARSE_DATA = 512 * MIB;
const TIMEOUT_MS = 3_600_000;
const QCOW2FS = fileURLToPath(new URL('../../../bin/qcow2fs', import.meta.url));

interface Subject {
  readonly name: string;
  readonly image: Image;
}

/** Prints the digest, as sha256sum does. */
interface Way {
  readonly title: string;
  readonly take: (image: Image, dir: string) => Promise<string>;
}

const shell = (script: string, ...args: string[]): Promise<string> =>
  run('sh', ['-c', `set -e; ${script}`, 'sh', ...args], { timeoutMs: TIMEOUT_MS });

const secretArgs = ({ secret }: Image): string[] => (secret === undefined ? [] : ['--secret-file', secret]);

const WAYS: readonly Way[] = [
  {
    title: 'qcow2fs hash',
    take: (image) => run(QCOW2FS, ['hash', ...secretArgs(image), image.path], { timeoutMs: TIMEOUT_MS }),
  },
  { title: 'convert, sha256sum', take: convertAndSum },
  { title: 'sha256sum mnt/disk.raw', take: mountAndSum },
];

async function convertAndSum({ path, secret }: Image): Promise<string> {
  const raw = join(await mkdtemp('/dev/shm/qcow2fs-bench-'), 'raw');
  const tidy = atExit(() => rm(dirname(raw), { recursive: true, force: true }));
  const source =
    secret === undefined
      ? ['-f', 'qcow2', path]
      : [
          ...['--object', `secret,id=s,file=${secret}`],
          ...['--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`],
        ];
  const digest = await shell(
    'out=$1; shift; qemu-img convert -O raw "$@" "$out"; sha256sum "$out"',
    raw,
    ...source,
  );
  await tidy();
  return digest;
}

async function mountAndSum(image: Image, dir: string): Promise<string> {
  const mountpoint = await mkdtemp(join(dir, 'mnt-'));
  const log = `${mountpoint}.log`;
  const tidy = atExit(() =>
    run('umount', ['-q', '-l', mountpoint], { undoing: true }).then(
      () => {},
      () => {},
    ),
  );
  const script = 'm=$1; shift; "$@" "$m"; sha256sum "$m/disk.raw"; umount "$m"';
  const mount = [QCOW2FS, 'mount', '-r', '--log', log, ...secretArgs(image), image.path];
  const digest = await shell(script, mountpoint, ...mount);
  await tidy();
  return digest;
}

async function subjects(dir: string, size: number, sparseSize: number, only: string[]): Promise<Subject[]> {
  const store = new ImageStore(dir, size);
  const found: Subject[] = [];
  for (const kind of KINDS) {
    if (only.includes(kind.name)) found.push({ name: kind.title, image: await store.filled(kind) });
    if (kind.name !== PLAIN.name || !only.includes('sparse')) continue;
    const path = await store.make(`sparse-${sparseSize}`, (top) =>
      makeSpread(top, sparseSize, SPARSE_DATA / CLUSTER),
    );
    found.push({ name: 'sparse', image: { path, size: sparseSize, secret: undefined } });
  }
  return found;
}

/** Seconds of each way, round by round. */
async function measure({ name, image }: Subject, rounds: number, dir: string): Promise<number[][]> {
  const seconds: number[][] = WAYS.map(() => []);
  const digests = new Set<string>();
  await warm(image);
  if (image.secret !== undefined) await warmFile(image.secret);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < WAYS.length; turn++) {
      const way = (round + turn) % WAYS.length;
      const start = performance.now();
      digests.add((await WAYS[way]!.take(image, dir)).slice(0, 64));
      seconds[way]!.push((performance.now() - start) / 1000);
      console.error(`bench: ${name}, ${WAYS[way]!.title}: ${seconds[way]!.at(-1)!.toFixed(2)} s`);
    }
  }
  if (digests.size !== 1) throw new Error(`${name}: the digests differ: ${[...digests].join(' ')}`);
  return seconds;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function row({ name, image }: Subject, seconds: readonly number[][]): string {
  const medians = seconds.map(median);
  const [own] = medians;
  const rates = medians.map(
    (value) => `${value.toFixed(2)} s, ${Math.round(image.size / MIB / value)} MiB/s`,
  );
  const ratios = medians.slice(1).map((value) => (value / own!).toFixed(2));
  return `| ${[name, `${image.size / GIB} GiB`, ...rates, ...ratios].join(' | ')} |`;
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const names = ['plain', 'sparse', ...KINDS.slice(1).map((kind) => kind.name)];
  const { values } = parseArgs({
    options: { size: text, sparse: text, rounds: text, only: text, dir: text },
  });
  const rounds = Number(values.rounds ?? 5);
  const only = values.only?.split(',') ?? names;
  if (values.dir !== undefined) await mkdir(values.dir, { recursive: true });
  const work = await realpath(await mkdtemp(join(values.dir ?? tmpdir(), 'qcow2fs-bench-')));
  atExit(() => rm(work, { recursive: true }));
  const dir = values.dir === undefined ? work : await realpath(values.dir);
  const size = Number(values.size ?? 1024) * MIB;
  const all = await subjects(dir, size, Number(values.sparse ?? 64) * GIB, only);
  console.log((await setting([], dir)).map((line) => `- ${line}`).join('\n'));
  const version = (await run('qemu-img', ['--version'])).split('\n')[0];
  console.log(`- ${version}; ${(await run('sha256sum', ['--version'])).split('\n')[0]}`);
  console.log(`- Medians of ${rounds}; images in the page cache.\n`);
  const titles = WAYS.map(({ title }) => title);
  const ratios = titles.slice(1).map((title) => `times as fast as ${title}`);
  const head = ['', 'disk', ...titles, ...ratios];
  console.log(`| ${head.join(' | ')} |\n| ${head.map((_, i) => (i < 2 ? '---' : '---:')).join(' | ')} |`);
  for (const subject of all) console.log(row(subject, await measure(subject, rounds, work)));
}

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt);
try {
  await main();
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  process.exitCode = 1;
}
await undoAll();
