/** Persistent bitmaps as QEMU's tools see them. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { EXTENSION, readExtensions, readNumber } from './damage.js';
import { type Image, imagePath, qemuImg } from './images.js';
import { run } from './run.js';

export interface BitmapInfo {
  readonly name: string;
  readonly flags: readonly string[];
}

export function bitmapsOf(image: Image): readonly BitmapInfo[] {
  const info = JSON.parse(qemuImg(image.dir, ['info', '--output=json', image.name])) as {
    'format-specific': { data: { bitmaps?: BitmapInfo[] } };
  };
  return info['format-specific'].data.bitmaps ?? [];
}

/** Host offset of the first entry of the directory: its table at +0, the size of that at +8, the flags at +12. */
export function bitmapEntryOffset(image: Image): number {
  const { offset } = readExtensions(imagePath(image)).find(({ type }) => type === EXTENSION.bitmaps)!;
  return Number(readNumber(imagePath(image), offset + 16, 8));
}

/** Gives the granules that QEMU's NBD server calls dirty. */
export async function dirtyGranules(image: Image, name: string, granularity: number): Promise<number[]> {
  const socket = path.join(image.dir, 'nbd');
  const server = spawn('qemu-nbd', [
    '-r',
    '-t',
    '-e',
    '2',
    '-f',
    'qcow2',
    '-B',
    name,
    '-k',
    socket,
    imagePath(image),
  ]);
  try {
    await untilServed(server, socket);
    const options = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${name}`;
    const map = JSON.parse(run('qemu-img', ['map', '--output=json', '--image-opts', options])) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    return map
      .filter(({ data }) => !data)
      .flatMap(({ start, length }) =>
        Array.from({ length: Math.ceil(length / granularity) }, (_, i) => start / granularity + i),
      );
  } finally {
    // A SIGTERM while a client goes it forgets, and serves on.
    const exit = new Promise((resolve) => server.once('exit', resolve));
    if (server.exitCode === null && server.kill('SIGKILL')) await exit;
    fs.rmSync(socket, { force: true });
  }
}

async function untilServed(server: ChildProcess, socket: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await accepts(socket))) {
    if (server.exitCode !== null || Date.now() > deadline) throw new Error('qemu-nbd does not serve');
    await new Promise(setImmediate);
  }
}

/** qemu-nbd binds its socket before it listens. */
function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = net.connect(socket, () => {
      client.destroy();
      resolve(true);
    });
    client.once('error', () => resolve(false));
  });
}
