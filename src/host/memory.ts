/** Where bytes lie, as plain numbers: what functions of the C library take, without an object for each part of a buffer. */
import { addressOfMemory } from './libc.js';

/** Where the memory of an `ArrayBuffer` lies, which never moves. */
const addresses = new WeakMap<ArrayBufferLike, number>();

/** @param at index of the byte; the caller keeps `bytes` alive as long as the address is used */
export function addressOf(bytes: ArrayBufferView, at: number): number {
  return (addresses.get(bytes.buffer) ?? learnAddress(bytes.buffer)) + bytes.byteOffset + at;
}

function learnAddress(memory: ArrayBufferLike): number {
  const address = addressOfMemory(memory);
  addresses.set(memory, address);
  return address;
}
