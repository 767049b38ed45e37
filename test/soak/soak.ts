/**
 * A tool for people: several disks under a mixed load for as long as one likes, others mounted and unmounted all the
 * time, and a report whether the daemons grow. Not a part of `make test`.
 *
 *     node dist/test/soak/soak.js --minutes 60 --out soak.md
 *
 * Ends with status 0 when memory, descriptors and threads are steady.
 */
import { fork } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { atExit, interrupt, isInterrupted, run, undoAll } from '../bench/process.js';
import {
  checkImage,
  createImage,
  createRaw,
  type Image,
  imagePath,
  MiB,
  qemuImg,
  writeSecret,
} from '../support/images.js';
import { BIN } from '../support/qcow2fs.js';
import { makeScratch, type Scratch } from '../support/scratch.js';
import { report, type Series } from './report.js';
import { type Sample, takeSample } from './samples.js';

const SIZE = 256 * MiB;
const EVERY_MS = 1000;
const LOAD = fileURLToPath(new URL('load.js', import.meta.url));

interface Soaked {
  readonly name: string;
  readonly image: Image;
  readonly options: readonly string[];
  readonly role: 'read' | 'write';
}

/** Empty ones, which fill, and compressed ones. */
function makeImages(scratch: Scratch): Soaked[] {
  const dir = scratch.subdir();
  const secret = writeSecret(dir, 'soak');
  const luks = { secret, encryption: ['encrypt.format=luks', 'encrypt.iter-time=10'] };
  const key = ['--secret-file', secret.file];
  const raw = createRaw(dir, 'content.raw', SIZE, 1, [{ offset: 0, length: SIZE / 4 }]);
  const zlib = (name: string): Image => {
    qemuImg(dir, ['convert', '-q', '-f', 'raw', '-O', 'qcow2', '-c', raw, name]);
    return { dir, name, openOptions: [] };
  };
  return [
    {
      name: 'plain',
      image: createImage(dir, { name: 'plain.qcow2', size: SIZE }),
      options: [],
      role: 'write',
    },
    {
      name: 'LUKS',
      image: createImage(dir, { name: 'luks.qcow2', size: SIZE, ...luks }),
      options: key,
      role: 'write',
    },
    { name: 'zlib', image: zlib('zlib.qcow2'), options: [], role: 'write' },
    { name: 'zlib, read-only', image: zlib('read.qcow2'), options: ['-r'], role: 'read' },
  ];
}

async function mountAt(mountpoint: string, { image, options }: Soaked): Promise<() => Promise<void>> {
  fs.mkdirSync(mountpoint);
  await run(BIN, ['mount', '--log', `${mountpoint}.log`, ...options, imagePath(image), mountpoint]);
  return atExit(async () => {
    try {
      await run(BIN, ['umount', mountpoint], { undoing: true });
    } catch (error) {
      // Nothing stays behind, not even what shows that something is wrong.
      await run('umount', ['-l', mountpoint], { undoing: true });
      throw error;
    }
  });
}

async function daemonOf(mountpoint: string): Promise<number> {
  const listed = JSON.parse(await run(BIN, ['list', '--json'])).mounts as {
    mountpoint: string;
    pid: number;
  }[];
  return listed.find((entry) => entry.mountpoint === mountpoint)!.pid;
}

/** @returns ends the load */
function startLoad(
  disk: string,
  seed: number,
  role: string,
  onDone: (count: number) => void,
): () => Promise<void> {
  const child = fork(LOAD, [disk, String(seed), role]);
  child.on('message', (count) => onDone(Number(count)));
  let failure: string | undefined;
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      if (code !== 0) failure = `the load on ${disk} ended with ${code ?? signal}`;
      resolve();
    });
  });
  return atExit(async () => {
    if (child.connected) child.send('enough');
    await ended;
    if (failure !== undefined) throw new Error(failure);
  });
}

/** Mounts, reads and unmounts one image after the other, again and again. @returns how often */
async function comeAndGo(dir: string, images: readonly Soaked[], until: () => boolean): Promise<number> {
  let count = 0;
  for (; until(); count++) {
    const mountpoint = `${dir}/come-${count}`;
    const unmount = await mountAt(mountpoint, images[count % images.length]!);
    await run('cmp', ['-n', String(MiB), `${mountpoint}/disk.raw`, `${mountpoint}/disk.raw`]);
    await unmount();
    fs.rmdirSync(mountpoint);
    fs.rmSync(`${mountpoint}.log`);
  }
  return count;
}

async function soak(minutes: number): Promise<{ text: string; passed: boolean }> {
  const scratch = makeScratch();
  atExit(() => scratch.dispose());
  const soaked = makeImages(scratch);
  const others = makeImages(scratch);
  const all: (Series & { samples: Sample[]; readonly pid: number })[] = [];
  const ends: (() => Promise<void>)[] = [];
  const unmounts: (() => Promise<void>)[] = [];
  let operations = 0;
  for (const [index, one] of soaked.entries()) {
    const mountpoint = scratch.path(`soaked-${index}`);
    unmounts.push(await mountAt(mountpoint, one));
    all.push({ name: one.name, samples: [], pid: await daemonOf(mountpoint) });
    const count = (done: number): void => {
      operations += done;
    };
    ends.push(startLoad(`${mountpoint}/disk.raw`, index + 1, one.role, count));
  }
  const begin = performance.now();
  let isBroken = false;
  const goesOn = (): boolean => !isBroken && !isInterrupted() && performance.now() - begin < minutes * 60_000;
  const coming = comeAndGo(scratch.dir, others, goesOn);
  coming.catch(() => {
    isBroken = true;
  });
  while (goesOn()) {
    for (const { samples, pid } of all) samples.push(takeSample(pid, (performance.now() - begin) / 1000));
    await sleep(EVERY_MS);
  }
  const seconds = Math.round((performance.now() - begin) / 1000);
  const came = await coming;
  for (const end of [...ends, ...unmounts]) await end();
  for (const { image } of soaked) checkImage(image);
  const facts = [
    `${seconds} s, ${soaked.length} disks of ${SIZE / MiB} MiB, each under a random load`,
    `${operations} reads, writes, discards, zeros and flushes`,
    `${came} other mounts came and went meanwhile`,
    'afterwards `qemu-img check` finds no fault with any image',
  ];
  return report(facts, all);
}

async function main(): Promise<number> {
  const text = { type: 'string' } as const;
  const { minutes = '10', out } = parseArgs({ options: { minutes: text, out: text } }).values;
  if (!(Number(minutes) > 0)) throw new Error(`--minutes: ${minutes} is no positive number`);
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const { text: written, passed } = await soak(Number(minutes));
  if (out === undefined) process.stdout.write(written);
  else fs.writeFileSync(out, written);
  return passed ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    process.exitCode = await main();
  } catch (error) {
    process.stderr.write(`soak: ${(error as Error).message}\n`);
    process.exitCode = 1;
  } finally {
    await undoAll();
  }
}
