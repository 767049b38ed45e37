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
/** One frame; -1, no bytes or whatever for a bad one. */
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
  return placing((frame, room) => decoder.decode(frame, room));
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
  let consumed = 0;
  let produced = 0;
  while (produced < target.length) {
    const length = frameLength(source.subarray(consumed));
    if (length === undefined) return false;
    const frame = source.subarray(consumed, consumed + length);
    consumed += length;
    if (isSkippable(frame)) continue;
    // zstddec answers a damaged frame with no bytes. What follows must not be tried: it may be the next cluster's.
    const written = decodeFrame(frame, target, produced, target.length - produced);
    if (written <= 0) return false;
    produced += written;
  }
  return true;
}

function isSkippable(source: Buffer): boolean {
  const magic = source.readUInt32LE(0);
  return magic >= SKIPPABLE_MAGIC_MIN && magic <= SKIPPABLE_MAGIC_MAX;
}

/**
 * Bytes of the frame at the start of `source`, found by walking its block headers (RFC 8878, 3.1).
 * @returns undefined when `source` holds no whole frame there
 */
export function frameLength(source: Buffer): number | undefined {
  if (source.length < 8) return undefined;
  if (isSkippable(source)) {
    const end = 8 + source.readUInt32LE(4);
    return end <= source.length ? end : undefined;
  }
  if (source.readUInt32LE(0) !== FRAME_MAGIC) return undefined;

  const descriptor = source[4]!;
  const singleSegment = (descriptor >> 5) & 1;
  const hasChecksum = (descriptor >> 2) & 1;
  const contentSizeFlag = descriptor >> 6;
  const contentSizeBytes =
    contentSizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeFlag] ?? 0);
  let at = 5 + (singleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;

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
