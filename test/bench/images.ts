/** The images: made when they are first needed, or there from an earlier run with the same size. */

import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { warmFile, writeContent } from './content.js';
import type { Kind } from './kinds.js';
import { makeChain } from './layers.js';
import { atExit, run } from './process.js';

const PASSPHRASE = 'bench';
const TOP = 'image';

export interface Image {
  readonly path: string;
  /** Virtual size in bytes. */
  readonly size: number;
  /** A file with the passphrase, for an encrypted image. */
  readonly secret: string | undefined;
}

export class ImageStore {
  readonly #dir: string;
  readonly #size: number;

  /** @param size of the disks in bytes */
  constructor(dir: string, size: number) {
    this.#dir = dir;
    this.#size = size;
  }

  /** An image of this kind, fully allocated. */
  async filled(kind: Kind): Promise<Image> {
    const source = kind.layers === 1 ? await this.source(kind.content) : '';
    const path = await this.make(`${kind.name}-${this.#size}`, async (top) => {
      if (kind.layers > 1) return makeChain(top, this.#size, kind.layers);
      const compress = kind.compressed ? ['-c'] : [];
      const options = [...compress, ...(await this.#options(kind))];
      await qemuImg(['convert', '-f', 'raw', '-O', 'qcow2', ...options, source, top]);
    });
    return { path, size: this.#size, secret: await this.#secret(kind) };
  }

  /** An image of this kind that holds nothing. */
  async empty(kind: Kind): Promise<Image> {
    const path = await this.make(`empty-${kind.name}-${this.#size}`, async (top) => {
      const options = await this.#options(kind);
      await qemuImg(['create', '-q', '-f', 'qcow2', ...options, top, `${this.#size}`]);
    });
    return { path, size: this.#size, secret: await this.#secret(kind) };
  }

  /** A raw disk. */
  async source(content: Kind['content']): Promise<string> {
    return await this.make(`${content}-${this.#size}`, (top) => writeContent(top, this.#size, content));
  }

  /**
   * The path of an image that `make` makes. It has a directory of its own, which holds its backing files too, so that
   * what an interruption leaves behind is not taken for an image.
   */
  async make(name: string, make: (top: string) => Promise<void>): Promise<string> {
    const path = join(this.#dir, name, TOP);
    if (existsSync(path)) return path;
    const unfinished = join(this.#dir, 'unfinished');
    const tidy = atExit(() => rm(unfinished, { recursive: true, force: true }));
    await mkdir(unfinished);
    await make(join(unfinished, TOP));
    await rename(unfinished, dirname(path));
    await tidy();
    return path;
  }

  async #options(kind: Kind): Promise<string[]> {
    const secret = await this.#secret(kind);
    return [
      ...(secret === undefined ? [] : ['--object', `secret,id=s,file=${secret}`]),
      ...(kind.format.length === 0 ? [] : ['-o', kind.format.join(',')]),
    ];
  }

  async #secret(kind: Kind): Promise<string | undefined> {
    if (!kind.encrypted) return undefined;
    const path = join(this.#dir, 'secret');
    await writeFile(path, PASSPHRASE);
    return path;
  }
}

/** QEMU measures the CPU in order to choose the cost of a LUKS key, and sometimes fails on a fast one. */
async function qemuImg(args: readonly string[]): Promise<void> {
  for (let left = 9; ; left--) {
    try {
      await run('qemu-img', args);
      return;
    } catch (error) {
      if (left === 0 || !(error as Error).message.includes('Unable to get accurate CPU usage')) throw error;
    }
  }
}

/** Brings an image and its backing files into the host's page cache. */
export async function warm({ path }: Image): Promise<void> {
  const dir = dirname(path);
  for (const name of await readdir(dir)) await warmFile(join(dir, name));
}

/** A copy, to be written to by one candidate alone. */
export async function copy(image: Image, path: string): Promise<Image> {
  await copyFile(image.path, path);
  return { ...image, path };
}

/** Brings what has been written to an image to the disk of the host, so that this does not go on during what follows. */
export async function settle({ path }: Image): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
