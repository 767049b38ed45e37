/** What the disks are filled with: the same pseudo-random bytes each time. */

import { createCipheriv } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Kind } from './kinds.js';

const PIECE = 4 << 20;
const BLOCK = 4096;

/** Writes a raw disk of `size` bytes. `compressible` means by half, in every 4 KiB. */
export async function writeContent(path: string, size: number, content: Kind['content']): Promise<void> {
  // The key stream of AES-CTR.
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(PIECE);
  const file = await open(path, 'w');
  try {
    for (let done = 0; done < size; done += PIECE) {
      const piece = stream.update(zeros.subarray(0, Math.min(PIECE, size - done)));
      if (content === 'compressible') repeatHalf(piece);
      await file.write(piece);
    }
  } finally {
    await file.close();
  }
}

function repeatHalf(piece: Buffer): void {
  for (let at = 0; at < piece.length; at += BLOCK)
    piece.fill(piece[at] as number, at + BLOCK / 2, at + BLOCK);
}

/** Reads a file once, so that it is in the host's page cache. */
export async function warmFile(path: string): Promise<void> {
  const buffer = Buffer.alloc(PIECE);
  const file = await open(path, 'r');
  try {
    while ((await file.read(buffer, 0, PIECE, null)).bytesRead > 0);
  } finally {
    await file.close();
  }
}
