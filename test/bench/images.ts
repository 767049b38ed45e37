/** The images: fully allocated, filled with data that neither compresses nor repeats, one plain and one LUKS. */

import { createCipheriv } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { atExit, run } from './process.js';
import { KINDS, type Kind } from './workloads.js';

const PASSPHRASE = 'bench';
const PIECE = 4 << 20;

export interface Image {
  readonly kind: Kind;
  readonly path: string;
  readonly secret: string | undefined;
}

/** Makes the images in `dir`, or takes the ones that are there from an earlier run with the same `size`. */
export async function makeImages(dir: string, size: number, kinds: readonly Kind[]): Promise<Image[]> {
  const secret = join(dir, 'secret');
  await writeFile(secret, PASSPHRASE);
  const images = KINDS.filter((kind) => kinds.includes(kind)).map(
    (kind): Image => ({
      kind,
      path: join(dir, `${kind}-${size}.qcow2`),
      secret: kind === 'luks' ? secret : undefined,
    }),
  );
  const missing = images.filter((image) => !existsSync(image.path));
  if (missing.length === 0) return images;

  const raw = join(dir, 'raw');
  const unfinished = join(dir, 'unfinished');
  const tidy = atExit(() =>
    Promise.all([rm(raw, { force: true }), rm(unfinished, { force: true })]).then(() => {}),
  );
  await writeRandom(raw, size);
  for (const image of missing) {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...creation(image), raw, unfinished]);
    await rename(unfinished, image.path);
  }
  await tidy();
  return images;
}

function creation({ secret }: Image): string[] {
  if (secret === undefined) return [];
  return [
    '--object',
    `secret,id=s,file=${secret}`,
    '-o',
    'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100',
    '-o',
    'encrypt.cipher-alg=aes-256,encrypt.cipher-mode=xts,encrypt.ivgen-alg=plain64,encrypt.hash-alg=sha256',
  ];
}

/** The same pseudo-random bytes each time: the key stream of AES-CTR. */
async function writeRandom(path: string, size: number): Promise<void> {
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(PIECE);
  const file = await open(path, 'w');
  try {
    for (let done = 0; done < size; done += PIECE) {
      await file.write(stream.update(zeros.subarray(0, Math.min(PIECE, size - done))));
    }
  } finally {
    await file.close();
  }
}

/** Reads the whole image once, so that it is in the host's page cache. */
export async function warm(image: Image): Promise<void> {
  const buffer = Buffer.alloc(PIECE);
  const file = await open(image.path, 'r');
  try {
    const { size } = await stat(image.path);
    for (let done = 0; done < size; done += PIECE) await file.read(buffer, 0, PIECE, done);
  } finally {
    await file.close();
  }
}
