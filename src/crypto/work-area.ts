/**
 * The memory in which a thread's ciphers work, and the steps that AES itself does not do, in WebAssembly for its
 * 16-byte operations: XOR, and the masks of XTS. Small enough for the CPU cache.
 */
import fs from '../fs.js';

/** Sectors that one pass takes at most. */
export const PIECE_SECTORS = 128;
export const PIECE_BYTES = PIECE_SECTORS * 512;

interface Exports extends Steps {
  readonly memory: WebAssembly.Memory;
  readonly data: WebAssembly.Global;
  readonly masks: WebAssembly.Global;
  readonly ivs: WebAssembly.Global;
}

/** What AES itself does not do. */
interface Steps {
  /** Fills `masks` for the first sectors, from their encrypted tweaks in `ivs`. */
  makeMasks(sectors: number): void;
  /** XORs the first bytes of `data` with those of `masks`; a multiple of 64. */
  xor(bytes: number): void;
}

export interface WorkArea extends Steps {
  /** `PIECE_BYTES` of whole sectors; the same as words. */
  readonly data: Buffer;
  readonly words: Int32Array;
  /** As many bytes, to XOR the data with. */
  readonly masks: Buffer;
  /** 16 bytes for each sector; the same as words. */
  readonly ivs: Buffer;
  readonly ivWords: Int32Array;
}

let area: WorkArea | undefined;

/** The one of the calling thread: nothing may be left in it between two calls of a cipher. */
export function workArea(): WorkArea {
  area ??= createWorkArea();
  return area;
}

function createWorkArea(): WorkArea {
  const code = fs.readFileSync(new URL('./work-area.wasm', import.meta.url));
  return WebAssembly.validate(code) ? webAssemblyArea(code) : portableArea();
}

function webAssemblyArea(code: Uint8Array): WorkArea {
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

/** For processors without SSE4.1, such as the smallest one that QEMU emulates: slower, and the same. */
export function portableArea(): WorkArea {
  const data = Buffer.from(new ArrayBuffer(PIECE_BYTES));
  const masks = Buffer.from(new ArrayBuffer(PIECE_BYTES));
  const ivs = Buffer.from(new ArrayBuffer(PIECE_SECTORS * 16));
  const words = new Int32Array(data.buffer);
  const maskWords = new Int32Array(masks.buffer);
  const ivWords = new Int32Array(ivs.buffer);
  return {
    data,
    words,
    masks,
    ivs,
    ivWords,
    makeMasks(sectors) {
      for (let sector = 0; sector < sectors; sector++) makeSectorMasks(maskWords, ivWords, sector);
    },
    xor(bytes) {
      for (let index = 0; index < bytes / 4; index++) words[index]! ^= maskWords[index]!;
    },
  };
}

/** XTS (IEEE Std 1619-2018, 5.2): each mask is the one before times x in GF(2^128), little endian. */
function makeSectorMasks(masks: Int32Array, ivs: Int32Array, sector: number): void {
  let [a, b, c, d] = [ivs[sector * 4]!, ivs[sector * 4 + 1]!, ivs[sector * 4 + 2]!, ivs[sector * 4 + 3]!];
  const end = (sector + 1) * (512 / 4);
  for (let at = sector * (512 / 4); at < end; at += 4) {
    masks[at] = a;
    masks[at + 1] = b;
    masks[at + 2] = c;
    masks[at + 3] = d;
    const carry = d >> 31;
    d = (d << 1) | (c >>> 31);
    c = (c << 1) | (b >>> 31);
    b = (b << 1) | (a >>> 31);
    a = (a << 1) ^ (carry & 0x87);
  }
}
