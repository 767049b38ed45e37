/** Tables of 8-byte entries in an image file, read piece by piece. */
import type { Storage } from '../../storage.js';

/** Bytes that are read at once. */
const PIECE_BYTES = 64 * 1024;

/** Fills the buffer from `position`; what lies beyond the end of the file reads as zeros. */
export function readPadded(storage: Storage, buffer: Buffer, position: number): void {
  buffer.fill(0, storage.read(buffer, 0, buffer.length, position));
}

/** Visits the entries that are not 0; holes of the file are passed over. */
export function forEachEntry(
  storage: Storage,
  tableOffset: number,
  entries: number,
  visit: (index: number, high: number, low: number) => void,
): void {
  const room = Buffer.alloc(Math.min(PIECE_BYTES, entries * 8));
  const fileSize = storage.size();
  for (let first = 0; first < entries; first += room.length / 8) {
    const position = tableOffset + first * 8;
    if (position >= fileSize) return;
    first = Math.max(first, Math.floor((storage.nextData(position) - tableOffset) / 8));
    if (first >= entries) return;
    const piece = room.subarray(0, Math.min(room.length, (entries - first) * 8));
    readPadded(storage, piece, tableOffset + first * 8);
    for (let at = 0; at < piece.length; at += 8) {
      const high = piece.readUInt32BE(at);
      const low = piece.readUInt32BE(at + 4);
      if ((high | low) !== 0) visit(first + at / 8, high, low);
    }
  }
}
