/**
 * Zstandard for compressed clusters: by the system's libzstd where there is one, else by Node's own decoder (Node 22.15),
 * else by zstddec's.
 * A cluster says neither how many frames it has nor where the last one ends: what follows may be the next cluster's.
 */
import zlib from 'node:zlib';
import { type Decompress, zstdDecompress } from '../host/inflate.js';

const FRAME_MAGIC = 0xfd2f_b528;
const SKIPPABLE_MAGIC_MIN = 0x184d_2a50;
const SKIPPABLE_MAGIC_MAX = 0x184d_2a5f;
/** Frame_Content_Size and Dictionary_ID field sizes, by their flags (RFC 8878, 3.1.1.1). */
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

const native = (
  zlib as { zstdDecompressSync?: (frame: Uint8Array, options: { maxOutputLength: number }) => Buffer }
).zstdDecompressSync;
/** One frame. */
let decodeFrame: Decompress | undefined;

/** Must have been awaited once in each thread that decodes. */
export async function prepareZstd(): Promise<void> {
  decodeFrame ??= zstdDecompress() ?? (await portableZstd());
}

/** For systems without libzstd: Node's own decoder, or zstddec. */
export async function portableZstd(): Promise<Decompress> {
  if (native) return placing((frame, room) => native(frame, { maxOutputLength: room }));
  const { ZSTDDecoder } = await import('zstddec');
  const decoder = new ZSTDDecoder();
  await decoder.init();
  return placing((frame, room) => {
    const content = decoder.decode(frame, room);
    if (content.length === 0) throw new Error('damaged, or empty: it answers both with no bytes');
    return content;
  });
}

function placing(decode: (frame: Uint8Array, room: number) => Uint8Array): Decompress {
  return (frame, target, at, room) => {
    try {
      const content = decode(frame, room);
      if (content.length > room) return -1;
      target.set(content, at);
      return content.length;
    } catch {
      return -1;
    }
  };
}

/**
 * Fills all of `target` from the frames at the start of `source`.
 * @returns false when the frames are damaged or too few
 */
export function inflateZstd(source: Buffer, target: Buffer): boolean {
  if (!decodeFrame) throw new Error('prepareZstd was not awaited');
  let produced = 0;
  for (let at = 0; produced < target.length; ) {
    const end = frameEnd(source, at);
    if (end === undefined) return false;
    // What follows a damaged frame must not be tried: it may be the next cluster's.
    const written = isSkippable(source, at)
      ? 0
      : decodeFrame(source.subarray(at, end), target, produced, target.length - produced);
    if (written < 0) return false;
    produced += written;
    at = end;
  }
  return true;
}

function isSkippable(source: Buffer, at: number): boolean {
  const magic = source.readUInt32LE(at);
  return magic >= SKIPPABLE_MAGIC_MIN && magic <= SKIPPABLE_MAGIC_MAX;
}

/**
 * The end of the frame at `start`, found by walking its block headers (RFC 8878, 3.1).
 * @returns undefined when `source` holds no whole frame there
 */
export function frameEnd(source: Buffer, start: number): number | undefined {
  if (source.length - start < 8) return undefined;
  if (isSkippable(source, start)) {
    const end = start + 8 + source.readUInt32LE(start + 4);
    return end <= source.length ? end : undefined;
  }
  if (source.readUInt32LE(start) !== FRAME_MAGIC) return undefined;

  const descriptor = source[start + 4]!;
  const singleSegment = (descriptor >> 5) & 1;
  const hasChecksum = (descriptor >> 2) & 1;
  const contentSizeFlag = descriptor >> 6;
  const contentSizeBytes =
    contentSizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeFlag] ?? 0);
  let at =
    start + 5 + (singleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;

  for (let last = 0; last === 0; ) {
    if (at + 3 > source.length) return undefined;
    const block = source.readUIntLE(at, 3);
    const type = (block >> 1) & 3;
    if (type === BLOCK_RESERVED) return undefined;
    last = block & 1;
    at += 3 + (type === BLOCK_RLE ? 1 : block >> 3);
  }
  at += hasChecksum ? 4 : 0;
  return at <= source.length ? at : undefined;
}
