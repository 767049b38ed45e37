/**
 * The two kinds of offset that must never be mixed: legacy AES tweaks by the one, LUKS by the other.
 * Both are bytes and at most 2^53 - 1.
 */
declare const kind: unique symbol;
export type GuestOffset = number & { readonly [kind]: 'guest' };
export type HostOffset = number & { readonly [kind]: 'host' };

export const guest = (bytes: number): GuestOffset => bytes as GuestOffset;
export const host = (bytes: number): HostOffset => bytes as HostOffset;

export const SECTOR_SIZE = 512;
export const TWO_32 = 0x1_0000_0000;

/** Big-endian 32-bit words to the machine's order, in place. */
export function swapWords(bytes: Buffer): void {
  if (IS_LITTLE_ENDIAN) bytes.swap32();
}

const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** `0x50000`, as offsets are written in messages. */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
