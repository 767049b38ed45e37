/**
 * Decompression by libraries that the process has already, or that the system has, called directly: node:zlib takes
 * three times as long for a cluster, because it makes a stream with its buffers for each.
 */
import { foreignIfPresent } from './libc.js';
import { addressOf } from './memory.js';

/**
 * Decompresses the start of `source` to `target[at, at + room)`.
 * @returns bytes written; -1 when the source is damaged
 */
export type Decompress = (source: Uint8Array, target: Uint8Array, at: number, room: number) => number;

const DAMAGED = -1;

const Z_FINISH = 4;
const Z_STREAM_END = 1;
/** The target is full, or the source is at its end. */
const Z_BUF_ERROR = -5;
/** Raw deflate with any window. */
const RAW = -15;
/**
 * z_stream of zlib.h where pointers and longs have 64 bits: next_in 0, avail_in 8, total_in 16, next_out 24,
 * avail_out 32, total_out 40, and what zlib keeps for itself.
 */
const Z_STREAM_BYTES = 112;
const POINTER = { nextIn: 0, nextOut: 3 } as const;
const WORD = { availIn: 2, availOut: 8 } as const;

/** Raw deflate by the zlib that Node is linked with; what follows the stream is ignored. Undefined where there is none. */
export function zlibInflate(): Decompress | undefined {
  if (!/64$/.test(process.arch)) return undefined;
  const init = foreignIfPresent(
    'int inflateInit2_(uint64_t stream, int bits, const char *version, int size)',
  );
  const reset = foreignIfPresent('int inflateReset(uint64_t stream)');
  const inflate = foreignIfPresent('int inflate(uint64_t stream, int flush)');
  if (!init || !reset || !inflate) return undefined;
  const memory = new ArrayBuffer(Z_STREAM_BYTES);
  const pointers = new BigUint64Array(memory);
  const words = new Uint32Array(memory);
  const stream = addressOf(new Uint8Array(memory), 0);
  if (init(stream, RAW, '1', Z_STREAM_BYTES) !== 0) return undefined;
  return (source, target, at, room) => {
    reset(stream);
    pointers[POINTER.nextIn] = BigInt(addressOf(source, 0));
    words[WORD.availIn] = source.length;
    pointers[POINTER.nextOut] = BigInt(addressOf(target, at));
    words[WORD.availOut] = room;
    const result = inflate(stream, Z_FINISH);
    return result === Z_STREAM_END || result === Z_BUF_ERROR ? room - words[WORD.availOut]! : DAMAGED;
  };
}

const LIBZSTD = process.platform === 'darwin' ? 'libzstd.1.dylib' : 'libzstd.so.1';

/** One frame of Zstandard, all of the source, by the libzstd of the system. Undefined where there is none. */
export function zstdDecompress(): Decompress | undefined {
  const create = foreignIfPresent('void *ZSTD_createDCtx()', LIBZSTD);
  const decompress = foreignIfPresent(
    'int64_t ZSTD_decompressDCtx(void *context, uint64_t target, uint64_t room, uint64_t source, uint64_t length)',
    LIBZSTD,
  );
  if (!create || !decompress) return undefined;
  const context = create();
  return (source, target, at, room) => {
    // Errors are negative numbers (zstd.h, ZSTD_isError).
    const written = decompress(context, addressOf(target, at), room, addressOf(source, 0), source.length);
    return written < 0 ? DAMAGED : written;
  };
}
