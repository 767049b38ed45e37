/**
 * The memory in which a thread's ciphers work, and the steps that AES itself does not do, in WebAssembly for its
 * 16-byte operations: XOR, and the masks of XTS. Small enough for the CPU cache.
 */
import fs from 'node:fs';

/** Sectors that one pass takes at most. */
export const PIECE_SECTORS = 128;
export const PIECE_BYTES = PIECE_SECTORS * 512;

interface Exports {
  readonly memory: WebAssembly.Memory;
  readonly data: WebAssembly.Global;
  readonly masks: WebAssembly.Global;
  readonly ivs: WebAssembly.Global;
  makeMasks(sectors: number): void;
  xor(bytes: number): void;
}

export interface WorkArea {
  /** `PIECE_BYTES` of whole sectors; the same as words. */
  readonly data: Buffer;
  readonly words: Int32Array;
  /** As many bytes, to XOR the data with. */
  readonly masks: Buffer;
  /** 16 bytes for each sector; the same as words. */
  readonly ivs: Buffer;
  readonly ivWords: Int32Array;
  /** Fills `masks` for the first sectors, from their encrypted tweaks in `ivs`. */
  makeMasks(sectors: number): void;
  /** XORs the first bytes of `data` with those of `masks`; a multiple of 64. */
  xor(bytes: number): void;
}

let area: WorkArea | undefined;

/** The one of the calling thread: nothing may be left in it between two calls of a cipher. */
export function workArea(): WorkArea {
  area ??= createWorkArea();
  return area;
}

function createWorkArea(): WorkArea {
  const code = fs.readFileSync(new URL('./work-area.wasm', import.meta.url));
  const instance = new WebAssembly.Instance(new WebAssembly.Module(code));
  const { memory, data, masks, ivs, makeMasks, xor } = instance.exports as unknown as Exports;
  const { buffer } = memory;
  return {
    data: Buffer.from(buffer, data.value, PIECE_BYTES),
    words: new Int32Array(buffer, data.value, PIECE_BYTES / 4),
    masks: Buffer.from(buffer, masks.value, PIECE_BYTES),
    ivs: Buffer.from(buffer, ivs.value, PIECE_SECTORS * 16),
    ivWords: new Int32Array(buffer, ivs.value, PIECE_SECTORS * 4),
    makeMasks,
    xor,
  };
}
